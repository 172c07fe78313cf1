"""`data` in params.yaml: which instruction data set, its columns and the slice of it that is used."""

from typing import Annotated

from pydantic import Field

from stages.params.section import Section, Sha256, Source

Column = Annotated[str, Field(min_length=1)]


class Columns(Section):
    """The data set's names for the columns of a row; `input` None: there is none."""

    instruction: Column
    input: Column | None
    output: Column


class Data(Section):
    """See params.yaml for the meaning of each key."""

    source: Source
    sha256: Sha256 | None
    columns: Columns
    split: Annotated[str, Field(min_length=1)]
