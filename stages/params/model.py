"""`model` in params.yaml: which causal language model, and the precision it computes in."""

from typing import Annotated, Literal

from pydantic import Field

from stages.params.section import Section

Source = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Model(Section):
    """See params.yaml for the meaning of each key."""

    source: Source
    sha256: Sha256 | None
    dtype: Literal["float32", "bfloat16", "float16", "auto"]
