"""Gated feed-forward blocks of a frozen model: down(act(gate(x)) * up(x)), with less kept for the backward pass.

Autograd keeps three tensors of the block's inner width for each token: the gate (for act), act(gate) and up (for the
product). In a frozen model these are most of what a training step keeps at all. Two of them suffice: act(gate) is one
elementwise pass over the gate, done again in backward.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHILDREN = {"gate_proj", "up_proj", "down_proj", "act_fn"}


class _GatedProduct(torch.autograd.Function):
    """`act(gate) * up`, all of one shape, (…, inner); keeps `gate` and `up` alone."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.act = act
        return act(gate).mul_(up)  # in place: one array less to write

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        gate, up = ctx.saved_tensors
        leaf = gate.detach().requires_grad_()
        with torch.enable_grad():
            activated = ctx.act(leaf)
        (by_gate,) = torch.autograd.grad(activated, leaf, gradient * up)
        return by_gate, activated.detach().mul_(gradient), None


def _forward(block: Any, x: Tensor) -> Tensor:
    """The block's forward: (…, hidden) -> (…, hidden)."""
    if torch.compiler.is_compiling():  # the compiler decides by itself what to keep
        return block.down_proj(block.act_fn(block.gate_proj(x)) * block.up_proj(x))
    return block.down_proj(_GatedProduct.apply(block.gate_proj(x), block.up_proj(x), block.act_fn))


def slim_gated_blocks(model: nn.Module) -> None:
    """Give the gated feed-forward blocks of `model` the forward above; what computes anything else stays as it is."""
    # Of the model's values: quantized weights are integers.
    dtype = next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)
    for block in model.modules():
        if {name for name, _ in block.named_children()} == CHILDREN and not _is_slim(block) and _is_plain(block, dtype):
            kind: Any = type(block)
            block.__class__ = _slim(kind)


@cache
def _slim(kind: type[nn.Module]) -> type[nn.Module]:
    """The class with the forward above. Not a forward of each block's own, which compiled code would be made for."""
    own = {"forward": _forward, "__reduce_ex__": _reduced, "__module__": kind.__module__}
    return type(f"Slim{kind.__name__}", (kind,), own)


def _reduced(block: Any, protocol: int) -> tuple[Any, ...]:
    """For pickle, which doesn't find the class by its name."""
    return _empty_slim, (type(block).__base__,), block.__dict__


def _empty_slim(kind: Any) -> nn.Module:
    slim: Any = _slim(kind)
    return slim.__new__(slim)


def _is_slim(block: Any) -> bool:
    return type(block).forward is _forward


@torch.no_grad()
def _is_plain(block: Any, dtype: torch.dtype) -> bool:
    """Whether the block's own forward gives what `_forward` does, bit for bit, on an example of `dtype`."""
    gate = block.gate_proj
    if not isinstance(gate, nn.Linear) or gate.weight.is_meta:
        return False
    x = torch.linspace(-3, 3, 2 * gate.in_features, dtype=dtype, device=gate.weight.device).view(2, -1)
    # An activation that returns its input, or writes to it, leaves nothing to compute again.
    ahead = gate(x)
    before, activated = ahead.clone(), block.act_fn(ahead)
    if activated.data_ptr() == ahead.data_ptr() or not torch.equal(ahead, before):
        return False
    return torch.equal(block(x), _forward(block, x))
