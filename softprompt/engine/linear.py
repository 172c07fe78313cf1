"""Linear layers of a frozen model: on a CPU, float32 products go through oneDNN.

torch hands float32 matrix products to MKL, which on AMD's processors leaves half of the vector width unused: measured
there (EPYC, 2 cores, AVX-512), oneDNN is 2.3 times as fast at the shapes of a training step, with the weight as it is
stored. Both compute in float32 throughout; they differ in the order of their sums.
"""

from typing import Any

import torch
from torch import Tensor, nn

from softprompt.engine.gated import slim_gated_blocks


class _Product(torch.autograd.Function):
    """`x @ weight.T + bias` with a gradient for `x` alone. x: (…, in); weight: (out, in); result: (…, out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _onednn(gradients[0].contiguous(), weight.t(), None), None, None


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # The operator behind compiled models' linear layers; it has no name in torch's public interface.
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class FrozenLinear(nn.Linear):
    """An `nn.Linear` whose weight is not trained; in other precisions and on other devices it is one unchanged."""

    def forward(self, input: Tensor) -> Tensor:
        """`input @ weight.T + bias`: (…, in) -> (…, out)."""
        suits = input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32 and input.numel() > 0
        if not suits or self.weight.requires_grad or not torch.backends.mkldnn.is_available():
            return super().forward(input)
        return _Product.apply(input, self.weight, self.bias)


def freeze(model: nn.Module) -> None:
    """Take every parameter of `model` out of training, and let its layers make use of that."""
    model.requires_grad_(False)
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FrozenLinear
    slim_gated_blocks(model)
