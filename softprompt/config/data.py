"""`data` in params.yaml: which instruction data set, its columns and the slice of it that is used."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from softprompt.config.section import Checksum, Revision, Section, Source

Column = Annotated[str, Field(min_length=1)]


class Columns(Section):
    """The data set's names for the columns of a row; None: a known name."""

    instruction: Column | None
    input: Column | None
    output: Column | None
    messages: Column | None

    @field_validator("input", "output", "messages")
    @classmethod
    def is_another_column(cls, name: str | None, info: ValidationInfo) -> str | None:
        """Refuse one column in two places: an answer would stand in its own question."""
        if name is not None and name in info.data.values():
            raise ValueError("a column that is not named twice")
        return name

    @field_validator("messages")
    @classmethod
    def stands_alone(cls, name: str | None, info: ValidationInfo) -> str | None:
        """Refuse a conversation beside a question and an answer."""
        if name is not None and any(info.data.values()):
            raise ValueError("null where instruction, input or output is named: a row is one or the other")
        return name


class Data(Section):
    """See params.yaml for the meaning of each key."""

    source: Source
    revision: Revision | None
    sha256: Checksum
    format: Literal["auto", "alpaca", "prompt_completion", "chat"]
    columns: Columns
    split: Annotated[str, Field(min_length=1)]
