"""`general` in params.yaml: out-of-domain text, on which a regression would show."""

from typing import Annotated

from pydantic import Field

from softprompt.config.section import Checksum, Positive, Revision, Section, Source


class General(Section):
    """See params.yaml for the meaning of each key."""

    source: Source | None
    revision: Revision | None
    sha256: Checksum
    column: Annotated[str, Field(min_length=1)]
    blocks: Positive
    block_tokens: Annotated[int, Field(ge=2, le=2**31 - 1)]
