"""`data` in params.yaml: which instruction data set, its columns and the slices of it that are used."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from softprompt.config.section import Checksum, Revision, Section, Source

Name = Annotated[str, Field(min_length=1)]


class Columns(Section):
    """The data set's names for what a row is made of; None: a known name."""

    instruction: Name | None
    input: Name | None
    output: Name | None
    messages: Name | None
    system: Name | None
    history: Name | None
    weight: Name | None
    reasoning_content: Name | None
    ignore: list[Name]

    @field_validator("input", "output", "messages", "system", "history", "weight", "reasoning_content")
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

    @field_validator("history", "reasoning_content")
    @classmethod
    def is_no_part_of_a_conversation(cls, name: str | None, info: ValidationInfo) -> str | None:
        """Refuse beside a conversation what its own turns say."""
        if name is not None and info.data.get("messages") is not None:
            raise ValueError("null where messages is named: its turns say that themselves")
        return name

    @field_validator("ignore")
    @classmethod
    def is_used_nowhere(cls, names: list[str], info: ValidationInfo) -> list[str]:
        """Refuse a column that is named and ignored."""
        if named := sorted(set(names) & {name for name in info.data.values() if name is not None}):
            raise ValueError(f"columns that are not named for something else, as {', '.join(named)} is")
        return names


class Data(Section):
    """See params.yaml for the meaning of each key."""

    source: Source
    validation_source: Source | None
    test_source: Source | None
    revision: Revision | dict[Source, Revision] | None
    sha256: Checksum
    subset: Name | dict[Source, Name] | None
    split: Name
    validation_split: Name | None
    test_split: Name | None
    format: Literal["auto", "alpaca", "prompt_completion", "chat"]
    columns: Columns
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None
    encoding: Name | None
    bad_rows: Literal["drop", "refuse"]
    max_bad_rows: Annotated[float, Field(ge=0, le=1)]

    @field_validator("test_split")
    @classmethod
    def is_another_slice(cls, split: str | None, info: ValidationInfo) -> str | None:
        """Refuse to test on the validation rows."""
        given = info.data
        same_source = given.get("test_source") == given.get("validation_source")
        if split is not None and same_source and split == given.get("validation_split"):
            raise ValueError("another slice than data.validation_split, which chooses the prompt")
        return split
