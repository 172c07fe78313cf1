"""What every section of params.yaml has in common: unknown keys are faults, and nothing is coerced."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Source = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A section of params.yaml: strict types, no unknown keys, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)
