"""Several processes of one stage: which one this is, and what they tell each other.

A launcher (torchrun, accelerate) starts them, see `softprompt.distributed.launch`; `torch.distributed` carries what
they say.
A process alone is the first of one, and its calls here cost nothing.
"""

import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
S = TypeVar("S", bound=Sequence)


def count() -> int:
    """How many processes there are."""
    group = _group()
    return 1 if group is None else group.get_world_size()


def rank() -> int:
    """Which one this is, from 0 on."""
    group = _group()
    return 0 if group is None else group.get_rank()


def is_first() -> bool:
    """Whether this is the one that writes, prints and shows progress."""
    return rank() == 0


def own_part(values: S) -> S:
    """Every n-th of `values`, from this process's rank on; together the processes have all of them."""
    return values[rank() :: count()]  # type: ignore[return-value]


def share(value: T | None) -> T:
    """The first process's `value`, in all of them; what the others give doesn't count. Whatever pickle takes."""
    box = [value]
    if group := _group():
        group.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


def gathered(value: T) -> list[T]:
    """The `value` of each process, by rank, in all of them. Whatever pickle takes."""
    group = _group()
    if group is None:
        return [value]
    values: list[Any] = [None] * group.get_world_size()
    group.all_gather_object(values, value)
    return values


def summed(values: np.ndarray) -> np.ndarray:
    """The sum of the processes' arrays of one shape, in all of them; exact where all but one have a zero."""
    return values if _group() is None else np.sum(gathered(values), axis=0)


def wait() -> None:
    """Until all are here."""
    gathered(None)


def _group() -> Any:
    """torch's module, where there are several processes; torch is not imported for one alone."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return None
    return torch.distributed
