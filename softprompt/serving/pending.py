"""A question that was asked, and its answer as it comes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from softprompt.config.evaluate import Generate
from softprompt.serving.answer_text import AnswerText


class Pending:
    """A question from the moment it waits to the end of its answer.

    Text is made in the event loop's thread, where questions are tokenized too: tokenizers are not for two threads. The
    model's thread hands on tokens, and asks `is_over`.

    Args:
        question: token ids.
        settings: how the answer is generated.
        seed: of sampling; None: any.
        text: what makes text of tokens.

    Attributes:
        is_over: nobody waits for another token.
        tokens: of the answer so far, its end token included.
        finish_reason: "stop" at an end token or a stop text, "length" at the most tokens; None: neither yet.
    """

    def __init__(self, question: Sequence[int], settings: Generate, seed: int | None, text: AnswerText) -> None:
        self.question, self.settings, self.text = question, settings, text
        self.seed = seed if settings.do_sample else None
        self.is_over = False
        self.tokens = 0
        self.finish_reason: str | None = None
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | Exception | None] = asyncio.Queue()

    def goes_with(self, other: "Pending") -> bool:
        """Whether both may be answered in one batch: with a seed of its own, an answer's samples are its own."""
        return self.settings == other.settings and self.seed is None and other.seed is None

    def hand_on(self, token: int) -> None:
        """Take the next token, from any thread; what comes after the end is padding."""
        self._soon(self._put, token)

    def fail(self, error: Exception) -> None:
        """Take the reason why there is no more of an answer, from any thread."""
        self._soon(self._pieces.put_nowait, error)

    def give_up(self) -> None:
        """Nobody waits any more: the answer ends at the model's next step, or does not begin."""
        self.is_over = True

    async def pieces(self) -> AsyncIterator[str]:
        """The answer's text, a piece at a time.

        Raises:
            Exception: what `fail` was given.
        """
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def _soon(self, take: Callable[[Any], None], what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(take, what)

    def _put(self, token: int) -> None:
        if self.is_over:
            return
        self.tokens += 1
        piece = self.text.put(token)
        if self.text.stopped or token in self.text.ends:
            self.finish_reason = "stop"
        elif self.tokens == self.settings.max_new_tokens:
            self.finish_reason = "length"
        self.is_over = self.finish_reason is not None
        if self.is_over:
            piece += self.text.end()
        if piece:
            self._pieces.put_nowait(piece)
        if self.is_over:
            self._pieces.put_nowait(None)
