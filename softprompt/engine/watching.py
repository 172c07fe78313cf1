"""Answers watched as they are generated, and ended one by one.

transformers' streamers see all rows of a batch at once and can end none. A `Watch` sees new tokens alone, so rows of
unequal length share a batch under it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

# Called after each step with the numbers of the answers and the new token of each; returns for each whether it ends
# here. One that has ended goes on as padding while others of its batch are not done.
Watch = Callable[[Sequence[int], Sequence[int]], Sequence[bool]]


class Watched(StoppingCriteria):
    """transformers' stopping criterion that asks a `Watch`.

    Args:
        watch: what is asked.
        numbers: of the answers that are generated together.
    """

    def __init__(self, watch: Watch, numbers: Sequence[int]) -> None:
        self.watch, self.numbers = watch, numbers

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """For the rows so far, (answers, length), whether each ends, (answers,)."""
        ends = self.watch(self.numbers, input_ids[:, -1].tolist())
        return torch.tensor(ends, dtype=torch.bool, device=input_ids.device)
