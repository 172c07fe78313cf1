"""Another forward for a module, for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within the block calls of `module` take `forward`, and afterwards what they took before."""
    whole: Any = module
    shadowed = vars(module).get("forward")  # of the instance: accelerate's hooks put one there
    whole.forward = forward
    try:
        yield
    finally:
        del whole.forward
        if shadowed is not None:
            whole.forward = shadowed
