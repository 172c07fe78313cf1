"""Questions that wait are answered together: what arrives while a batch runs makes the next one."""

import secrets
import threading
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from softprompt.evaluation.answers import generation_config, sampling
from softprompt.serving.pending import Pending
from softprompt.serving.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softprompt.evaluation.variants import Variants


class Batcher:
    """A queue of questions, and the model that answers them in the thread that calls `run`.

    Args:
        variants: the loaded model, whose prompt is run once, now.
        max_batch: questions of a batch at most.
    """

    def __init__(self, variants: "Variants", max_batch: int) -> None:
        self.variants, self.max_batch = variants, max_batch
        self._waiting: list[Pending] = []
        self._running: list[Pending] = []
        self._batches = 0
        self._closed = False
        self._changed = threading.Condition()
        variants.model.keep_prompt()

    def put(self, pending: Pending) -> None:
        """Have a question answered, from any thread; after `close` it fails."""
        with self._changed:
            if self._closed:
                pending.fail(_ended())
            else:
                self._waiting.append(pending)
                self._changed.notify()

    def close(self) -> None:
        """Have `run` return, from any thread; questions without a whole answer fail."""
        with self._changed:
            self._closed = True
            for pending in (*self._running, *self._waiting):
                pending.fail(_ended())
            self._waiting = []
            self._changed.notify()

    def counts(self) -> dict[str, int]:
        """Questions that wait, those of the batch that runs, and batches that are over."""
        with self._changed:
            return {
                "waiting": sum(not pending.is_over for pending in self._waiting),
                "running": len(self._running),
                "batches": self._batches,
            }

    def run(self) -> None:
        """Answer questions until `close`; whatever ends this, Ctrl-C in the middle of a batch too, closes."""
        try:
            while batch := self._next():
                try:
                    self._answer(batch)
                except Exception as error:  # what one batch can't have must not end the server
                    for pending in batch:
                        pending.fail(error)
                with self._changed:
                    self._running = []
                    self._batches += 1
        finally:
            self.close()

    def _next(self) -> list[Pending]:
        """The question that waited longest, and those that may go with it; none after `close`."""
        with self._changed:
            while not self._closed:
                self._waiting = [pending for pending in self._waiting if not pending.is_over]
                if self._waiting:
                    first, *others = self._waiting
                    self._running = [first, *(other for other in others if other.goes_with(first))][: self.max_batch]
                    self._waiting = [pending for pending in self._waiting if pending not in self._running]
                    return self._running
                self._changed.wait()
        return []

    def _answer(self, batch: list[Pending]) -> None:
        model, first = self.variants.model, batch[0]
        ids = [torch.tensor(pending.question, device=model.device) for pending in batch]

        def watch(numbers: "Sequence[int]", tokens: "Sequence[int]") -> list[bool]:
            for number, token in zip(numbers, tokens, strict=True):
                batch[number].hand_on(token)
            return [batch[number].is_over for number in numbers]

        with sampling(model.device):
            torch.manual_seed(secrets.randbits(32) if first.seed is None else first.seed)
            model.generate(
                pad_sequence(ids, batch_first=True),
                attention_mask=pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
                generation_config=generation_config(first.settings, model.frozen, self.variants.template.end_id),
                watch=watch,
            )


def _ended() -> RefusedError:
    return RefusedError("the server has ended", status=503)
