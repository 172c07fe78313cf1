"""Linear layers of a frozen model: on a CPU, products in float32 go through oneDNN or MKL, as one chooses.

torch hands them to MKL, which on AMD's processors leaves half of the vector width unused: measured there (EPYC, 2
cores, AVX-512), oneDNN is 2.3 times as fast at the shapes of a training step, with the weight as it is stored. On an
Intel Xeon (2 cores, AVX-512) a step takes 0.9 of the time with MKL. Both compute in float32 throughout; they differ in
the order of their sums. In bfloat16 and float16 torch itself takes oneDNN.
"""

import time
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from softprompt import distributed
from softprompt.engine.gated import slim_gated_blocks
from softprompt.engine.quantized import keep_differentiable

CpuMatmul = Literal["onednn", "mkl"]
LIBRARIES: tuple[CpuMatmul, ...] = ("onednn", "mkl")
TRIED_TOKENS = 256  # from about here on the ratio of the two is that of any longer batch
TRIED_SECONDS = 0.4
# Asked once: torch.compile can't trace the question.
HAS_ONEDNN = torch.backends.mkldnn.is_available()


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # The operator behind compiled models' linear layers; it has no name in torch's public interface.
    product = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    # Of more than two dimensions it is a view, and autograd lets nobody change one in place that an operator returns.
    return product.data


# For compiled code: the compiler knows torch's operator only with weights that it has packed itself. Not for all calls:
# from Python this way to it takes 50 microseconds longer, 6% of a training step of 80 tokens.
_compiled_onednn = torch.library.custom_op("softprompt::onednn_linear", _onednn, mutates_args=(), device_types="cpu")


@_compiled_onednn.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


class _Product(torch.autograd.Function):
    """`x @ weight.T + bias` with a gradient for `x` alone. x: (…, in); weight: (out, in); result: (…, out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _product(gradients[0].contiguous(), weight.t(), None), None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return (_compiled_onednn if torch.compiler.is_compiling() else _onednn)(x, weight, bias)


class FrozenLinear(nn.Linear):
    """An `nn.Linear` whose weight is not trained; in other precisions and on other devices it is one unchanged.

    Attributes:
        cpu_matmul: the library that computes it in float32 on a CPU.
    """

    cpu_matmul: CpuMatmul = "onednn"

    @property
    def has_choice(self) -> bool:
        """Whether `cpu_matmul` decides anything."""
        weight, bias = self.weight, self.bias
        trained = weight.requires_grad or (bias is not None and bias.requires_grad)
        return HAS_ONEDNN and weight.device.type == "cpu" and weight.dtype == torch.float32 and not trained

    def forward(self, input: Tensor) -> Tensor:
        """`input @ weight.T + bias`: (…, in) -> (…, out)."""
        suits = input.device.type == "cpu" and input.dtype == torch.float32 and input.numel() > 0
        if not suits or self.cpu_matmul == "mkl" or not self.has_choice:
            return super().forward(input)
        return _Product.apply(input, self.weight, self.bias)


def freeze(model: nn.Module, cpu_matmul: CpuMatmul | Literal["auto"] = "onednn") -> None:
    """Take every parameter of `model` out of training, and let its layers make use of that.

    Args:
        model: linear layers that are frozen already keep their library.
        cpu_matmul: the library for products in float32 on a CPU; auto: the faster one here, by a trial.
    """
    model.requires_grad_(False)
    layers: list[Any] = [module for module in model.modules() if type(module) is nn.Linear]
    for layer in layers:
        layer.__class__ = FrozenLinear
    library = _faster(layers) if cpu_matmul == "auto" else cpu_matmul
    for layer in layers:
        layer.cpu_matmul = library
    keep_differentiable(model)  # before what follows, which tries the blocks
    slim_gated_blocks(model)


def cpu_matmul_of(model: nn.Module) -> CpuMatmul | None:
    """The library that computes the frozen layers of `model`; None where it has no choice, as on a GPU."""
    frozen = (layer for layer in model.modules() if isinstance(layer, FrozenLinear))
    return next((layer.cpu_matmul for layer in frozen if layer.has_choice), None)


def _faster(layers: list[FrozenLinear]) -> CpuMatmul:
    """The library that is faster at `layers`, forward and backward; the same one in all processes.

    Each shape is tried that several layers have (a decoder's; the output layer computes at labels alone). The libraries
    take turns, and each one's shortest time counts: what else runs on the machine slows both.
    """
    of_shape: dict[torch.Size, list[FrozenLinear]] = {}
    for layer in layers:
        if layer.has_choice:
            of_shape.setdefault(layer.weight.shape, []).append(layer)
    tried = [alike for alike in of_shape.values() if len(alike) > 1] or list(of_shape.values())
    best = np.full((len(tried), len(LIBRARIES)), np.inf)
    started, rounds = time.perf_counter(), 0
    while tried and (
        rounds < 2 or time.perf_counter() - started < TRIED_SECONDS
    ):  # the first one also sets the libraries up
        for shape, alike in enumerate(tried):
            for at, library in enumerate(LIBRARIES):
                best[shape, at] = min(best[shape, at], _seconds(alike[rounds % len(alike)], library))
        rounds += 1
    seconds = distributed.summed(np.array([len(alike) for alike in tried]) @ best)
    return LIBRARIES[int(seconds.argmin())]


def _seconds(layer: FrozenLinear, library: CpuMatmul) -> float:
    """How long forward and backward of `layer` take."""
    layer.cpu_matmul = library
    x = torch.ones(TRIED_TOKENS, layer.in_features, requires_grad=True)
    started = time.perf_counter()
    result = layer(x)
    torch.autograd.grad(result, x, result)
    return time.perf_counter() - started
