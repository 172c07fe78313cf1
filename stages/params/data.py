"""`data` in params.yaml: which instruction data set, its columns and the slice of it that is used."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from stages.params.section import Section, Sha256, Source

Column = Annotated[str, Field(min_length=1)]


class Columns(Section):
    """The data set's names for the columns of a row; `input` None: there is none."""

    instruction: Column
    input: Column | None
    output: Column

    @field_validator("input", "output")
    @classmethod
    def is_another_column(cls, name: str | None, info: ValidationInfo) -> str | None:
        """Refuse one column in two places: an answer would stand in its own question."""
        if name is not None and name in info.data.values():
            raise ValueError("a column that is not named twice")
        return name


class Data(Section):
    """See params.yaml for the meaning of each key."""

    source: Source
    sha256: Sha256 | None
    columns: Columns
    split: Annotated[str, Field(min_length=1)]
