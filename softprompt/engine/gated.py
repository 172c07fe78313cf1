"""Gated feed-forward blocks of a frozen model: down(act(gate(x)) * up(x)), with less kept for the backward pass.

Autograd keeps three tensors of the block's inner width for each token: the gate (for act), act(gate) and up (for the
product). In a frozen model these are most of what a training step keeps at all. Two of them suffice: act(gate) is one
elementwise pass over the gate, done again in backward.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

CHILDREN = {"gate_proj", "up_proj", "down_proj", "act_fn"}


class _GatedProduct(torch.autograd.Function):
    """`act(gate) * up`, all of one shape, (…, inner); keeps `gate` and `up` alone."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.act = act
        return act(gate) * up

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        gate, up = ctx.saved_tensors
        leaf = gate.detach().requires_grad_()
        with torch.enable_grad():
            activated = ctx.act(leaf)
        (by_gate,) = torch.autograd.grad(activated, leaf, gradient * up)
        return by_gate, gradient * activated.detach(), None


def _forward(block: Any, x: Tensor) -> Tensor:
    """The block's forward: (…, hidden) -> (…, hidden)."""
    return block.down_proj(_GatedProduct.apply(block.gate_proj(x), block.up_proj(x), block.act_fn))


def slim_gated_blocks(model: nn.Module) -> None:
    """Give the gated feed-forward blocks of `model` the forward above; what computes anything else stays as it is."""
    for block in model.modules():
        if {name for name, _ in block.named_children()} == CHILDREN and not _is_slim(block) and _is_plain(block):
            block.forward = partial(_forward, block)


def _is_slim(block: Any) -> bool:
    own = vars(block).get("forward")
    return isinstance(own, partial) and own.func is _forward


@torch.no_grad()
def _is_plain(block: Any) -> bool:
    """Whether the block's own forward gives what `_forward` does, bit for bit, on an example."""
    weight = getattr(block.gate_proj, "weight", None)
    if weight is None or weight.is_meta or not weight.is_floating_point():
        return False
    x = torch.linspace(-3, 3, 2 * weight.shape[1], dtype=weight.dtype, device=weight.device).view(2, -1)
    return torch.equal(block(x), _forward(block, x))
