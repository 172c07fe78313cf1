"""Compiled layers, and CUDA graphs of whole batches: what a GPU gains by most is fewer launches."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from softprompt.engine.forwards import replaced_forward

MOST_GRAPHS = 64  # each takes a second to make, and some memory of its own; further shapes go without
MOST_TOKENS = 8192  # of a forward whose kernels are short enough for launching them to matter


@contextmanager
def compiled_layers(decoder: PreTrainedModel) -> Iterator[None]:
    """Within the block the decoder's layers are compiled, one program for all of a kind and all lengths."""
    with ExitStack() as replaced:
        for layer in getattr(decoder, "layers", []):
            if "forward" not in vars(layer):  # accelerate's hooks have put theirs there, which knows the device
                kind: Any = type(layer)
                replaced.enter_context(replaced_forward(layer, partial(_compiled(kind), layer)))
        yield


@cache
def _compiled(kind: type[nn.Module]) -> Callable[..., Any]:
    return torch.compile(kind.forward, dynamic=True)


def can_be_captured(model: PreTrainedModel) -> bool:
    """Whether forwards of `model` may be CUDA graphs: all of it on one GPU, in precisions that torch's kernels have.

    A mixture of experts asks on the host which of them are wanted, which no graph can.
    """
    config = model.config.get_text_config()
    experts = any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    places = {parameter.device for parameter in model.parameters()}
    on_one_gpu = len(places) == 1 and places.pop().type == "cuda"
    return on_one_gpu and not experts and not getattr(model, "is_quantized", False)


@contextmanager
def same_stream() -> Iterator[None]:
    """After the block the stream is what it was before: a capture that fails leaves its own."""
    with torch.cuda.stream(torch.cuda.current_stream()):
        yield


class Graphs:
    """CUDA graphs of a function's forward and backward, one for each shape of its tensors that comes again.

    The function must compute the same program for the same shapes. Where it can't be captured, it is called instead,
    and a warning says so.
    """

    def __init__(self) -> None:
        self._made: dict[Any, Callable[..., Tensor]] = {}
        self._seen: set[Any] = set()
        self._memory: Any = None
        self._failed = False

    def __call__(self, function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Tensor:
        """`function(*tensors)`, replayed; its backward must follow before the next call."""
        shapes = tuple((tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for tensor in tensors)
        if shapes not in self._made and shapes in self._seen and len(self._made) < MOST_GRAPHS and not self._failed:
            self._capture(shapes, function, tensors)
        self._seen.add(shapes)
        made = self._made.get(shapes)
        # A copy: the next replay writes into the same memory.
        return function(*tensors) if made is None else made(*tensors).clone()

    def _capture(self, shapes: Any, function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> None:
        if self._memory is None:
            self._memory = torch.cuda.graph_pool_handle()
        samples = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors)
        try:
            with same_stream():
                made: Any = torch.cuda.make_graphed_callables(function, samples, pool=self._memory)
        except RuntimeError as error:  # too little memory is one, too
            warnings.warn(f"no CUDA graphs from here on: {str(error).splitlines()[0]}", stacklevel=2)
            self._failed = True
            self._made.clear()
            torch.cuda.empty_cache()
        else:
            self._made[shapes] = made
