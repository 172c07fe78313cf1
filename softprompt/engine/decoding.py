"""Decoding on a GPU as a CUDA graph: a step's kernels are small, and launching them takes most of its time.

transformers' `generate` stays what it is; its forward of one new token for each row is captured once and replayed. For
that, keys and values stand in a cache of a fixed size.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, StaticCache

from softprompt.engine.compiled import same_stream
from softprompt.engine.forwards import replaced_forward


@contextmanager
def steps_by_graph(
    model: PreTrainedModel, prefix: DynamicCache | None, rows: int, length: int
) -> Iterator[StaticCache]:
    """A cache for `rows` rows of `length` positions, which begin with the prefix of batch 1.

    Within the block `model`'s forward of one token for each row behind it, the first one aside, is replayed.
    """
    cache = _static(model, prefix, rows, length)
    with replaced_forward(model, _Steps(model.forward, cache)):
        yield cache


def _static(model: PreTrainedModel, prefix: DynamicCache | None, rows: int, length: int) -> StaticCache:
    cache = StaticCache(config=model.config, max_cache_len=length)
    layers: list[Any] = prefix.layers if prefix is not None else []
    for at, layer in enumerate(layers):
        keys, values = (of.expand(rows, -1, -1, -1) for of in (layer.keys, layer.values))
        cache.update(keys, values, at)
    return cache


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with every tensor in it, and in dictionaries in it, changed."""
    if isinstance(value, dict):  # masks, by the type of layer
        return {name: _changed(of, change) for name, of in value.items()}
    return change(value) if isinstance(value, Tensor) else value


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _changed(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


class _Steps:
    """A forward whose first step warms up, whose second one is captured, and whose others are replayed."""

    def __init__(self, forward: Callable[..., Any], cache: StaticCache) -> None:
        self.forward, self.cache = forward, cache
        self.__signature__ = inspect.signature(forward)  # by which `generate` decides what forward is given
        self.warm, self.failed = False, False
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: Any = None
        self.output: Any = None

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        if args:  # not by `generate` itself
            return self.forward(*args, **inputs)
        ids = inputs.get("input_ids")
        # Whatever else calls the model, guidance for example, has a cache of its own.
        is_step = isinstance(ids, Tensor) and ids.shape[1] == 1 and inputs.get("past_key_values") is self.cache
        if not is_step or not self.warm or self.failed:
            self.warm = self.warm or is_step
            return self.forward(**inputs)
        if self.graph is None and not self._capture(inputs):
            return self.forward(**inputs)
        for kept, given in zip(_tensors(self.inputs), _tensors(inputs), strict=True):
            kept.copy_(given)
        cast(torch.cuda.CUDAGraph, self.graph).replay()
        return self.output

    def _capture(self, inputs: dict[str, Any]) -> bool:
        self.inputs = _changed(inputs, Tensor.clone)
        try:
            graph = torch.cuda.CUDAGraph()
            with same_stream(), torch.cuda.graph(graph):  # nothing is computed, and nothing is written into the cache
                self.output = self.forward(**self.inputs)
        except RuntimeError as error:
            warnings.warn(f"generate: no CUDA graph here: {str(error).splitlines()[0]}", stacklevel=2)
            self.failed = True
            return False
        self.graph = graph
        return True
