"""Answers of the variants to one conversation, printed as they are generated."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from softprompt.config.evaluate import Generate
from softprompt.data.rows import Message
from softprompt.data.tokens import context_of
from softprompt.evaluation.answers import answer_of, generation_config, sampling
from softprompt.evaluation.names import NAMES
from softprompt.runtime.errors import InputError
from softprompt.serving.answer_text import AnswerText

if TYPE_CHECKING:
    from softprompt.evaluation.variants import Variants


class Answerer:
    """Puts conversations to a model as one variant or several.

    Args:
        variants: the loaded model.
        settings: how answers are generated.
        seed: of sampling; each variant and each turn begins with it.
        shown: which of the variants answer, "tuned" first.
    """

    def __init__(self, variants: "Variants", settings: Generate, seed: int, shown: Sequence[str]) -> None:
        self.variants, self.seed, self.shown = variants, seed, shown
        self.config = generation_config(settings, variants.model.frozen, variants.template.end_id)
        self.new_tokens: int = self.config.max_new_tokens

    def answer(self, messages: list[Message], note: Callable[[str], None]) -> str:
        """Print each variant's answer to `messages`, under its name where there are several; return the tuned one's.

        Args:
            messages: a conversation that ends with the user's turn.
            note: called with what is to be said about an answer.

        Raises:
            InputError: if the template doesn't take them, if question and answer don't fit into the model's context, or
                if a token has no embedding.
        """
        questions = {variant: self.variants.question_ids(messages, variant) for variant in self.shown}
        for variant, question in questions.items():
            self._check_room(variant, messages, len(question))
        texts = {}
        for place, (variant, question) in enumerate(questions.items()):
            if len(self.shown) > 1:
                print(f"{NAMES[variant]}:" if place == 0 else f"\n{NAMES[variant]}:", flush=True)
            texts[variant] = self._stream(variant, question, note)
        return texts["tuned"]

    def _stream(self, variant: str, question: list[int], note: Callable[[str], None]) -> str:
        model, template = self.variants.model, self.variants.template
        text = AnswerText(self.variants.tokenizer, self.config.eos_token_id, template.lead)

        def show(numbers: Sequence[int], tokens: Sequence[int]) -> list[bool]:
            print(text.put(tokens[0]), end="", flush=True)
            return [False]

        with self.variants.turn(variant), sampling(model.device):
            torch.manual_seed(self.seed)
            given = torch.tensor([question], device=model.device)
            try:
                output: Any = model.generate(given, generation_config=self.config, watch=show)
            finally:
                print(text.end(), flush=True)
        if answer_of(output[0, given.shape[1] :].tolist(), self.config).truncated:
            note(f"the answer was truncated after {self.new_tokens} tokens; --max-new-tokens allows more")
        return template.content_of(text.text)

    def _check_room(self, variant: str, messages: list[Message], given: int) -> None:
        """Refuse `messages` that make `given` tokens with the variant's text, where the context has no room for all."""
        context = context_of(self.variants.model.frozen.config)
        question = len(self.variants.question_ids(messages, "base"))
        ahead = self.variants.virtual_tokens if variant == "tuned" else given - question
        total = ahead + question + self.new_tokens
        if context is not None and total > context:
            raise InputError(
                f"{NAMES[variant]} ({ahead} tokens), question with its template ({question}) and answer "
                f"(--max-new-tokens {self.new_tokens}) make {total} tokens, but the model's context is {context}; ask "
                "a shorter question, or lower --max-new-tokens"
            )
