"""Who sees whom in a packed sequence: a token sees what is before all rows, and the earlier tokens of its row.

[ virtual tokens | preamble | row 1 | row 2 | … | row B ]
  -------- the prefix ----
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import DynamicCache

BLOCK = 128  # positions of a block of FlexAttention, and of what a sequence on a GPU is filled up to: few shapes
ALIKE = 0.7  # of the longest row of a group: shorter ones begin another group
PREFIX, FILLER = -1, -2  # in place of a row's number


@dataclass(frozen=True)
class Group:
    """Rows that are padded to the longest of them.

    Attributes:
        rows: how many.
        width: positions of the longest.
        length: positions of all.
        position: which of all positions each place of the padded rows has, (rows x width,).
        place: which place each position has, (length,).
        padding: which places are padding.
    """

    rows: int
    width: int
    length: int
    position: Tensor
    place: Tensor
    padding: Tensor

    @classmethod
    def of(cls, lengths: list[int], device: torch.device) -> "Group":
        """Of rows of these lengths."""
        counts, width = np.array(lengths), max(lengths)
        real = np.arange(width) < counts[:, None]
        position = np.where(real, (np.cumsum(counts) - counts)[:, None] + np.arange(width), 0)
        made = position.ravel(), np.flatnonzero(real), np.flatnonzero(~real)
        indices = (torch.from_numpy(part).to(device) for part in made)
        return cls(len(lengths), width, int(counts.sum()), *indices)


class Layout:
    """The layout of one packed sequence on one device; what it makes for attention is made once and kept.

    Args:
        prefix: positions of the sequence that are before all rows.
        lengths: positions of each row, the longest first.
        filler: positions after the last row that no row sees.
        trained: keys and values of each layer that are before the sequence; None: there are none.
        device: of the sequence.

    Attributes:
        windows: the window of attention that each layer has asked for, by its index; None: it sees everything.
    """

    def __init__(
        self,
        prefix: int,
        lengths: tuple[int, ...],
        filler: int = 0,
        trained: DynamicCache | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.prefix, self.lengths, self.filler, self.trained = prefix, lengths, filler, trained
        self.device = torch.device(device)
        self.windows: dict[int, int | None] = {}
        self._made: dict[Any, Any] = {}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Layout":
        """The same on another device: accelerate asks for it where a model's layers stand on several."""
        if torch.device(device) == self.device:
            return self
        moved = self._once(
            ("on", torch.device(device)), lambda: Layout(self.prefix, self.lengths, self.filler, self.trained, device)
        )
        moved.windows = self.windows
        return moved

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def groups(self) -> list["Group"]:
        """The rows in runs of similar length, each padded to its longest; rows of no length are in none."""
        return self._once("groups", self._make_groups)

    def _make_groups(self) -> list["Group"]:
        runs: list[list[int]] = []
        for length in filter(None, self.lengths):
            if runs and ALIKE * runs[-1][0] <= length <= runs[-1][0]:
                runs[-1].append(length)
            else:
                runs.append([length])
        return [Group.of(run, self.device) for run in runs]

    def mask(self, queries: int, keys: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """What is added to scores, (queries, keys): 0 where a query sees a key, else -inf.

        The queries stand at the last positions of the keys.
        """

        def make() -> Tensor:
            distance = torch.arange(keys - queries, keys).unsqueeze(1) - torch.arange(keys)
            seen = (distance >= 0) & (distance < (window or keys))
            return torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf).to(self.device)

        return self._once(("mask", queries, keys, window, dtype), make)

    def blocks(self, ahead: int, window: int | None) -> BlockMask:
        """FlexAttention's mask of the whole sequence after `ahead` trained keys."""
        return self._once(("blocks", ahead, window), partial(self._make_blocks, ahead, window))

    def _make_blocks(self, ahead: int, window: int | None) -> BlockMask:
        lengths = np.array(self.lengths)
        behind = self.prefix + lengths.sum() + np.arange(self.filler)
        row = np.concatenate(
            [np.full(self.prefix, PREFIX), np.repeat(np.arange(len(lengths)), lengths), np.full(self.filler, FILLER)]
        )
        first = np.concatenate(  # where the row of each position begins; filler sees nothing but itself
            [np.zeros(self.prefix, int), np.repeat(self.prefix + np.cumsum(lengths) - lengths, lengths), behind]
        )
        # As the row alone would count: after the prefix.
        position = ahead + np.arange(len(row)) - np.where(row >= 0, first - self.prefix, 0)
        rows, positions = (
            torch.from_numpy(np.concatenate([front, part])).to(self.device)
            for front, part in ((np.full(ahead, PREFIX), row), (np.arange(ahead), position))
        )

        def sees(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
            place = query + ahead
            distance = positions[place] - positions[key]
            seen = (distance >= 0) & ((rows[key] == PREFIX) & (rows[place] != FILLER) | (rows[key] == rows[place]))
            seen = seen & ((rows[place] != FILLER) | (key == place))
            return seen if window is None else seen & (distance < window)

        counts, indices = _blocks_to_look_at(first, prefix=ahead + self.prefix, ahead=ahead)
        return BlockMask.from_kv_blocks(
            torch.from_numpy(counts)[None, None].to(self.device),
            torch.from_numpy(indices)[None, None].to(self.device),
            BLOCK_SIZE=BLOCK,
            mask_mod=sees,
            seq_lengths=(len(row), ahead + len(row)),
        )


def _blocks_to_look_at(first: np.ndarray, prefix: int, ahead: int) -> tuple[np.ndarray, np.ndarray]:
    """For each block of queries, how many blocks of keys it looks into, (blocks,), and which, (blocks, key blocks).

    These are the prefix's, and those from where its first row begins to its own end.
    """
    length = len(first)
    queries, keys = -(-length // BLOCK), -(-(ahead + length) // BLOCK)
    counts, indices = np.zeros(queries, np.int32), np.zeros((queries, keys), np.int32)
    for block in range(queries):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, length)
        own = range((ahead + first[begin:end].min()) // BLOCK, (ahead + end - 1) // BLOCK + 1)
        wanted = np.zeros(keys, bool)
        wanted[: -(-prefix // BLOCK)] = wanted[own.start : own.stop] = True
        counts[block] = wanted.sum()
        indices[block] = np.argsort(~wanted, kind="stable")  # what is looked at first, each part in order
    return counts, indices
