"""`model` in params.yaml: which causal language model, and the precision it computes in."""

from typing import Literal

from softprompt.config.section import Checksum, Revision, Section, Source


class Model(Section):
    """See params.yaml for the meaning of each key."""

    source: Source
    revision: Revision | None
    sha256: Checksum
    dtype: Literal["float32", "bfloat16", "float16", "auto"] | None
    quantization: Literal["4bit"] | None
    tf32: bool
    device_map: Literal["auto"] | None
