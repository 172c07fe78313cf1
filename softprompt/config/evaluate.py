"""`evaluate` in params.yaml: the baselines of the tuned prompt, and how all variants are scored."""

from typing import Annotated

from pydantic import Field, field_validator

from softprompt.config.section import Positive, Section, Text


class Generate(Section):
    """How answers are generated; the names and meanings are those of transformers' `GenerationConfig`."""

    max_new_tokens: Positive | None
    do_sample: bool
    temperature: Annotated[float, Field(gt=0, le=1e6)]
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    repetition_penalty: Annotated[float, Field(gt=0, le=1e6)]


class Evaluate(Section):
    """See params.yaml for the meaning of each key."""

    hard_prompt: Text
    batch_size: Positive
    rows: Positive | None
    rows_seed: Annotated[int, Field(ge=0, lt=2**32)]
    generate: Generate

    @field_validator("hard_prompt")
    @classmethod
    def is_a_text(cls, text: str) -> str:
        """Refuse white space only."""
        if not text.strip():
            raise ValueError("a text: the baseline that the tuned prompt is measured against")
        return text
