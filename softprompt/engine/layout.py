"""Who sees whom in a packed sequence: a token sees what is before all rows, and the earlier tokens of its row.

[ virtual tokens | preamble | row 1 | row 2 | … | row B ]
  -------- the prefix ----

Attention pads rows to one width, and nothing else does: see `softprompt.engine.attention`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

ALIKE = 0.7  # of the longest row of a group on a CPU: shorter ones begin another group


@dataclass(frozen=True)
class Group:
    """Rows that attention pads to one width.

    Attributes:
        position: which of the group's positions each place of the padded rows has, (rows, width).
        place: which place each position has, (length,); of filler, which no row sees, any.
        padding: which places are padding, (rows, width); None: none is.
    """

    position: Tensor
    place: Tensor
    padding: Tensor | None

    @classmethod
    def of(cls, lengths: Sequence[int], width: int | None = None, filler: int = 0) -> "Group":
        """Of rows of these lengths, on the host.

        Args:
            lengths: positions of each row, the longest first.
            width: to pad to; None: the longest.
            filler: positions after the last row.
        """
        counts = np.array(lengths)
        real = np.arange(width or counts[0]) < counts[:, None]
        position = np.where(real, (np.cumsum(counts) - counts)[:, None] + np.arange(real.shape[1]), 0)
        place = np.concatenate([np.flatnonzero(real), np.zeros(filler, int)])
        padding = torch.from_numpy(~real) if width or not real.all() else None
        return cls(torch.from_numpy(position), torch.from_numpy(place), padding)

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.position.shape[0]

    @property
    def width(self) -> int:
        """Places of each."""
        return self.position.shape[1]

    def to(self, device: torch.device | str) -> "Group":
        """The same on a device."""
        padding = None if self.padding is None else self.padding.to(device)
        return Group(self.position.to(device), self.place.to(device), padding)


@dataclass
class Layout:
    """The layout of one packed sequence on one device; what it makes for attention is made once and kept.

    Attributes:
        prefix: positions of the sequence that are before all rows.
        groups: the rows in runs, in order; rows of no length may be in none.
        trained: keys and values of each layer that are before the sequence; None: there are none.
        windows: the window of attention that each layer has asked for, by its index (None: it sees everything); None:
            not noted.
    """

    prefix: int
    groups: list[Group]
    trained: DynamicCache | None = None
    windows: dict[int, int | None] | None = None

    def __post_init__(self) -> None:
        self._made: dict[Any, Any] = {}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Layout":
        """The same on another device: accelerate asks for it where a model's layers stand on several."""
        if not self.groups or self.groups[0].place.device == torch.device(device):
            return self
        return self._once(
            torch.device(device), lambda: replace(self, groups=[group.to(device) for group in self.groups])
        )

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def mask(self, queries: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """What is added to scores, (queries, keys), in the dtype of `like`: 0 where a query sees a key, else -inf.

        The queries stand at the last positions of the keys.
        """

        def make() -> Tensor:
            places = torch.arange(keys, device=like.device)
            distance = places[keys - queries :].unsqueeze(1) - places
            seen = (distance >= 0) & (distance < (window or keys))
            return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(~seen, -torch.inf)

        return self._once((queries, keys, window, like.dtype, like.device), make)


def alike(lengths: Sequence[int]) -> list[Group]:
    """The rows of these lengths, the longest first, in runs of similar length, each padded to its longest."""
    runs: list[list[int]] = []
    for length in filter(None, lengths):
        if runs and ALIKE * runs[-1][0] <= length:
            runs[-1].append(length)
        else:
            runs.append([length])
    return [Group.of(run) for run in runs]
