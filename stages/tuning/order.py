"""The order of the training rows: shuffled, with rows of like length in one batch so that little of it is padding."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

WINDOW = 16  # batches among which rows are sorted: larger means less padding, but less chance in who meets whom


class LikeLengthSampler(Sampler[int]):
    """Yields every row's index once an epoch, so that each run of `batch_size` indices has rows of like length.

    The rows are shuffled, sorted by length within windows of `WINDOW` batches, cut into batches, and the batches are
    shuffled; the rows that fill no batch come last. Two epochs differ, two runs with one seed don't.

    Args:
        lengths: tokens of each row.
        batch_size: rows of one optimizer step (all its micro-batches together), so that how a step is cut into
            micro-batches does not change which rows it has.
        seed: of numpy's generator, together with the epoch.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        shuffled = generator.permutation(len(self.lengths))
        whole = len(shuffled) // self.batch_size * self.batch_size
        batches = []
        for start in range(0, whole, WINDOW * self.batch_size):
            window = shuffled[start : min(start + WINDOW * self.batch_size, whole)]
            window = window[np.argsort(self.lengths[window], kind="stable")]
            batches += np.split(window, len(window) // self.batch_size)
        for index in generator.permutation(len(batches)):
            yield from batches[index].tolist()
        yield from shuffled[whole:].tolist()

    def padding_share(self, micro_batch: int) -> float:
        """Share of padding among the positions of this epoch's batches of `micro_batch` rows; 0 to below 1."""
        lengths = self.lengths[list(self)]
        batches = [lengths[start : start + micro_batch] for start in range(0, len(lengths), micro_batch)]
        return 1 - float(lengths.sum()) / sum(int(batch.max()) * len(batch) for batch in batches)
