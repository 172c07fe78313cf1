"""`prepare` in params.yaml: the sizes of the splits."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from softprompt.config.section import Positive, Section

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Prepare(Section):
    """See params.yaml for the meaning of each key."""

    validation: Fraction
    test: Fraction
    leakage: Literal["refuse", "drop", "allow"]
    max_samples: Positive | None

    @field_validator("test")
    @classmethod
    def leaves_rows_to_train_on(cls, test: float, info: ValidationInfo) -> float:
        """Refuse fractions that leave no training rows."""
        validation = info.data.get("validation")
        if validation is not None and validation + test >= 1:
            raise ValueError(f"prepare.validation + prepare.test below 1 (now {validation + test:g})")
        return test
