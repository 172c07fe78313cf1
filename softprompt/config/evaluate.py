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

    hard_prompt: Text | Annotated[list[Text], Field(min_length=1)]
    few_shot: Annotated[int, Field(ge=0, le=2**31 - 1)]
    few_shot_seed: Annotated[int, Field(ge=0, lt=2**32)]
    batch_size: Positive
    rows: Positive | None
    rows_seed: Annotated[int, Field(ge=0, lt=2**32)]
    generate: Generate

    @property
    def hard_prompts(self) -> list[str]:
        """The texts of `hard_prompt`, one or several."""
        return [self.hard_prompt] if isinstance(self.hard_prompt, str) else self.hard_prompt

    @field_validator("hard_prompt")
    @classmethod
    def has_texts(cls, given: str | list[str]) -> str | list[str]:
        """Refuse white space only."""
        if not all(text.strip() for text in ([given] if isinstance(given, str) else given)):
            raise ValueError("a text, or a list of texts: the baseline that the tuned prompt is measured against")
        return given
