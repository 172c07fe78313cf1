"""What every section of params.yaml has in common: unknown keys are faults, and nothing is coerced."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of params.yaml: strict types, no unknown keys, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)
