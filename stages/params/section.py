"""What every section of params.yaml has in common: unknown keys are faults, and nothing is coerced."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.workspace.text import is_text

Source = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A section of params.yaml: strict types, no unknown keys, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def is_unicode(cls, value: Any) -> Any:
        """Refuse half a surrogate pair, which no tokenizer and no file takes."""
        if isinstance(value, str) and not is_text(value):
            raise ValueError("text without unpaired surrogates (\\ud800 to \\udfff)")
        return value
