"""`evaluate` in params.yaml: the rival of the tuned prompt, and the batches in which all rivals are scored."""

from pydantic import field_validator

from stages.params.section import Positive, Section


class Evaluate(Section):
    """See params.yaml for the meaning of each key."""

    hard_prompt: str
    batch_size: Positive

    @field_validator("hard_prompt")
    @classmethod
    def is_a_text(cls, text: str) -> str:
        """Refuse white space only."""
        if not text.strip():
            raise ValueError("a text: the rival that the tuned prompt is measured against")
        return text
