"""`evaluate` in params.yaml: the baselines of the tuned prompt, and how all variants are scored."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from softprompt.config.section import Positive, Section, has_line_breaks


def _are_texts(given: Any) -> Any:
    texts = given if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("a text, or a list of texts, none of them empty: what the tuned prompt is measured against")
    for text in texts:
        try:
            has_line_breaks(text)
        except ValueError as fault:
            raise ValueError(f"a text, or a list of texts: {fault}") from None
    return given


LEAST_TEMPERATURE = 1e-6  # scores divided by less may be infinite
Texts = Annotated[str | list[str], BeforeValidator(_are_texts)]  # one or several


class Generate(Section):
    """How answers are generated; the names and meanings are those of transformers' `GenerationConfig`."""

    max_new_tokens: Positive | None
    do_sample: bool
    temperature: Annotated[float, Field(ge=LEAST_TEMPERATURE, le=1e6)]
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)]
    top_p: Annotated[float, Field(gt=0, le=1)]
    repetition_penalty: Annotated[float, Field(gt=0, le=1e6)]


class Evaluate(Section):
    """See params.yaml for the meaning of each key."""

    hard_prompt: Texts
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
