"""The order of the training rows: shuffled, in length-grouped batches so that little of them is padding."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Dataset, Sampler

from softprompt.data.tokens import IGNORED, Row
from softprompt.runtime.errors import InputError

WINDOW = 16  # batches among which rows are sorted: larger means less padding, but less chance in who meets whom


class LengthGroupedSampler(Sampler[int]):
    """Yields every row's index once an epoch, so that each run of `batch_size` indices has rows of similar length.

    The rows are shuffled, sorted by length within windows of `WINDOW` batches, cut into batches, and the batches are
    shuffled; the rows that fill no batch come last. Two epochs differ, two runs with one seed don't.

    Args:
        lengths: tokens of each row.
        batch_size: rows of one optimizer step (all its micro-batches together), so that how a step is cut into
            micro-batches does not change which rows it has.
        seed: of numpy's generator, together with the epoch.
        multiple: of how many indices an epoch is to have a multiple, so that several processes have equal shares of its
            last step too. What fills it up is the first index that is no row's.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int, multiple: int = 1) -> None:
        self.lengths, self.batch_size, self.seed = np.asarray(lengths), batch_size, seed
        self.fillers = -len(self.lengths) % multiple
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) + self.fillers

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
        yield from [len(self.lengths)] * self.fillers

    def padding_share(self, micro_batch: int) -> float:
        """Share of padding among the positions of this epoch's batches of `micro_batch` rows; 0 to below 1."""
        lengths = self.lengths[[index for index in self if index < len(self.lengths)]]
        batches = [lengths[start : start + micro_batch] for start in range(0, len(lengths), micro_batch)]
        return 1 - float(lengths.sum()) / sum(int(batch.max()) * len(batch) for batch in batches)


class FilledUp(Dataset):
    """`rows` and, behind them, one that has no label: it adds nothing to a step's loss or gradient."""

    def __init__(self, rows: Sequence[Row], filler: Row) -> None:
        self.rows = rows
        self.filler = {"input_ids": filler["input_ids"], "labels": [IGNORED] * len(filler["labels"])}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index] if index < len(self.rows) else self.filler


def shares_of_a_step(batch_size: int, accumulation_steps: int, processes: int) -> tuple[int, int]:
    """Rows of one forward and forwards of one optimizer step in each of `processes`, whose steps have the same rows.

    Raises:
        InputError: if they can't have equal shares.
    """
    step = batch_size * accumulation_steps
    if step % processes:
        raise InputError(
            f"launcher: {processes} processes can't share the {step} rows of a step evenly; allowed: train.batch_size "
            f"x train.gradient_accumulation_steps (now {batch_size} x {accumulation_steps}) that is a multiple of "
            f"{processes}"
        )
    share = step // processes
    rows = next(rows for rows in range(min(batch_size, share), 0, -1) if share % rows == 0)
    return rows, share // rows
