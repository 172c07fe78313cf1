"""Compiled layers, and CUDA graphs of whole batches: what a GPU gains by most is fewer launches."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

MOST_GRAPHS = 64  # each takes a second to make, and some memory of its own; further shapes go without


@contextmanager
def compiled_layers(decoder: PreTrainedModel) -> Iterator[None]:
    """Within the block the decoder's layers are compiled, one program for all of a kind and all lengths."""
    layers: list[Any] = list(getattr(decoder, "layers", []))
    shadowed = [vars(layer).get("forward") for layer in layers]  # of the instance: accelerate's hooks put one there
    for layer, own in zip(layers, shadowed, strict=True):
        if own is None:
            kind: Any = type(layer)
            layer.forward = partial(_compiled(kind), layer)
    try:
        yield
    finally:
        for layer, own in zip(layers, shadowed, strict=True):
            if own is None:
                del layer.forward


@cache
def _compiled(kind: type[nn.Module]) -> Callable[..., Any]:
    return torch.compile(kind.forward, dynamic=True)


def on_one_gpu(model: PreTrainedModel) -> bool:
    """Whether all of `model` stands on one GPU, in a precision that torch's own kernels have."""
    places = {parameter.device for parameter in model.parameters()}
    return len(places) == 1 and places.pop().type == "cuda" and not getattr(model, "is_quantized", False)


class Graphs:
    """CUDA graphs of a function's forward and backward, one for each shape of its tensors.

    The function must compute the same program for the same shapes. One that can't be captured, such as a mixture of
    experts that looks on the host which of them are wanted, is called instead, and a warning says so.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Callable[..., Tensor]] = {}
        self._memory: Any = None
        self._failed = False

    def __call__(self, function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Tensor:
        """`function(*tensors)`, replayed; its backward must follow before the next call."""
        shapes = tuple((tuple(tensor.shape), tensor.requires_grad) for tensor in tensors)
        if shapes not in self._made and len(self._made) < MOST_GRAPHS and not self._failed:
            self._capture(shapes, function, tensors)
        made = self._made.get(shapes)
        # A copy: the next replay writes into the same memory.
        return function(*tensors) if made is None else made(*tensors).clone()

    def _capture(self, shapes: Any, function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> None:
        if self._memory is None:
            self._memory = torch.cuda.graph_pool_handle()
        samples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors)
        try:
            made: Any = torch.cuda.make_graphed_callables(function, samples, pool=self._memory)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._failed = True
            warnings.warn(f"no CUDA graphs for this model: {str(error).splitlines()[0]}", stacklevel=2)
        else:
            self._made[shapes] = made
