"""The order of the training rows: shuffled anew in each epoch, the same for any number of processes."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Shuffled:
    """Which rows each optimizer step learns from. Two epochs differ, two runs with one seed don't.

    Attributes:
        rows: how many there are.
        rows_a_step: of one optimizer step; the last step of an epoch has what is left.
        seed: of numpy's generator, together with the epoch.
    """

    rows: int
    rows_a_step: int
    seed: int

    @property
    def steps_an_epoch(self) -> int:
        """Optimizer steps in which each row is seen once."""
        return -(-self.rows // self.rows_a_step)

    def of_step(self, step: int) -> list[int]:
        """Indices of the rows of a step, counted from 1 on."""
        epoch, within = divmod(step - 1, self.steps_an_epoch)
        start = within * self.rows_a_step
        return _permutation(self.rows, self.seed, epoch)[start : start + self.rows_a_step].tolist()


@lru_cache(maxsize=1)  # the steps of an epoch ask for the same one
def _permutation(rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(rows)
