"""Gated feed-forward blocks: their own values and gradients, with less kept for the backward pass."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from softprompt.engine import gated
from softprompt.engine.linear import freeze
from tests.engine.architectures import make_base

GATED = ("llama", "qwen2", "mistral", "gemma3", "gemma2", "granite")


def blocks(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "gate_proj")]


def is_slim(block: nn.Module) -> bool:
    return type(block).forward.__module__ == gated.__name__


def kept(block: nn.Module, x: Tensor) -> list[Tensor]:
    """What autograd keeps for the backward pass of `block`, weights aside."""
    weights = {weight.data_ptr() for weight in block.parameters()}
    tensors: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            tensors[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(x)
    return list(tensors.values())


@pytest.mark.parametrize("name", GATED)
def test_value_and_gradient_are_the_blocks_own(name: str) -> None:
    model = make_base(name, torch.float64)
    own = copy.deepcopy(blocks(model))
    freeze(model)
    assert len(own) >= 2
    for block, plain in zip(blocks(model), own, strict=True):
        assert is_slim(block)
        x = torch.linspace(-2, 2, 3 * 5 * 32, dtype=torch.float64).sin().view(3, 5, 32).requires_grad_()
        ours, right = block(x), plain(x)
        assert torch.equal(ours, right)
        weights = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
        gradient, rights = (torch.autograd.grad(result, x, weights)[0] for result in (ours, right))
        torch.testing.assert_close(gradient, rights, rtol=1e-12, atol=1e-12)


def test_freezing_again_and_copying_change_nothing() -> None:
    model = make_base("llama", torch.float64)
    freeze(model)
    kinds = [type(block) for block in blocks(model)]
    freeze(model)
    assert [type(block) for block in blocks(copy.deepcopy(model))] == kinds
    assert {kind.__name__ for kind in kinds} == {"SlimLlamaMLP"}
    again = pickle.loads(pickle.dumps(model))
    assert [type(block) for block in blocks(again)] == kinds
    x = torch.arange(6).unsqueeze(0)
    assert torch.equal(again(x).logits, model(x).logits)


def test_a_second_derivative_is_refused() -> None:
    model = make_base("llama", torch.float64)
    freeze(model)
    x = torch.ones(1, 3, 32, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(blocks(model)[0](x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="grad"):
        first.sum().backward()


def test_less_is_kept() -> None:
    model = make_base("qwen2", torch.float64)
    plain = copy.deepcopy(blocks(model)[0]).requires_grad_(False)
    freeze(model)
    x = torch.ones(1, 7, 32, dtype=torch.float64, requires_grad=True)
    inner = plain.gate_proj.out_features
    wide = [[tensor for tensor in kept(block, x) if tensor.shape[-1] == inner] for block in (plain, blocks(model)[0])]
    assert [len(tensors) for tensors in wide] == [3, 2]


@pytest.mark.parametrize("act", [nn.Identity(), nn.ReLU(inplace=True)], ids=["input", "in place"])
def test_a_block_whose_activation_makes_no_tensor_stays_as_it_is(act: nn.Module) -> None:
    model = make_base("llama", torch.float64)
    for block in blocks(model):
        block.act_fn = act
    freeze(model)
    assert not any(is_slim(block) for block in blocks(model))


def test_a_block_that_computes_something_else_stays_as_it_is() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate_proj, self.up_proj = nn.Linear(8, 16), nn.Linear(8, 16)
            self.down_proj, self.act_fn = nn.Linear(16, 8), nn.SiLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.down_proj(silu(self.gate_proj(x)) * (self.up_proj(x) + 1))

    model = nn.Sequential(Other())
    freeze(model)
    assert not is_slim(model[0])


def test_a_block_in_bfloat16_gives_its_own_bits() -> None:
    model = make_base("llama", torch.bfloat16)
    plain = copy.deepcopy(blocks(model)[0])
    freeze(model)
    x = torch.linspace(-2, 2, 5 * 32).view(5, 32).bfloat16()
    assert is_slim(blocks(model)[0])
    assert torch.equal(blocks(model)[0](x), plain(x))
