"""`FrozenLinear`: an nn.Linear in all but the order of its sums."""

import copy

import pytest
import torch
from torch import Tensor, nn

from softprompt.engine import linear
from softprompt.engine.linear import FrozenLinear, freeze
from tests.engine.architectures import make_base

IN, OUT = 48, 80
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


def make_pair(bias: bool = True, dtype: torch.dtype = torch.float32) -> tuple[nn.Linear, nn.Linear]:
    """A frozen layer and torch's own, with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = nn.Linear(IN, OUT, bias=bias, dtype=dtype).requires_grad_(False)
    frozen = nn.Sequential(copy.deepcopy(plain))
    freeze(frozen)
    assert type(frozen[0]) is FrozenLinear
    return frozen[0], plain


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype)


def result_and_gradient(layer: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """`layer(x)` and the gradient by x of its sum with random weights."""
    x = x.detach().clone().requires_grad_()
    result = layer(x)
    (gradient,) = torch.autograd.grad(result, x, random(*result.shape, dtype=x.dtype))
    return result.detach(), gradient


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(IN,), (1, IN), (7, IN), (2, 5, IN), (2, 3, 4, IN)], ids=str)
def test_float32_agrees_with_torch(shape: tuple[int, ...], bias: bool) -> None:
    frozen, plain = make_pair(bias)
    for ours, right in zip(
        result_and_gradient(frozen, random(*shape)), result_and_gradient(plain, random(*shape)), strict=True
    ):
        assert ours.shape == right.shape
        torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-5)


@needs_onednn
def test_inputs_and_gradients_may_be_strided() -> None:
    frozen, plain = make_pair()
    transposed, expanded = random(IN, 7).t(), random(1, IN).expand(6, IN)
    for x in (transposed, expanded):
        torch.testing.assert_close(frozen(x), plain(x), rtol=1e-5, atol=1e-5)
    x = random(7, IN).requires_grad_()
    frozen(x).sum().backward()  # the gradient that comes back is one number, expanded
    torch.testing.assert_close(x.grad, plain.weight.sum(0).expand(7, IN), rtol=1e-5, atol=1e-5)


@needs_onednn
def test_float32_on_a_cpu_takes_onednn_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    product = linear._onednn
    monkeypatch.setattr(linear, "_onednn", lambda x, *rest: taken.append(x.dtype) or product(x, *rest))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        frozen, plain = make_pair(dtype=dtype)
        ours, right = frozen(random(4, IN, dtype=dtype)), plain(random(4, IN, dtype=dtype))
        if dtype != torch.float32:
            assert torch.equal(ours, right)
    assert taken == [torch.float32]


@pytest.mark.parametrize("shape", [(0, IN), (2, 0, IN)], ids=str)
def test_an_empty_input_has_an_empty_result_and_gradient(shape: tuple[int, ...]) -> None:
    frozen, _ = make_pair()
    result, gradient = result_and_gradient(frozen, random(*shape))
    assert result.shape == (*shape[:-1], OUT)
    assert gradient.shape == shape


def test_the_same_input_gives_the_same_bytes() -> None:
    frozen, _ = make_pair()
    first, second = (result_and_gradient(frozen, random(33, IN)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_other_precisions_are_torchs_own_bit_for_bit() -> None:
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        frozen, plain = make_pair(dtype=dtype)
        x = random(5, IN, dtype=dtype)
        for ours, right in zip(result_and_gradient(frozen, x), result_and_gradient(plain, x), strict=True):
            assert ours.dtype == dtype
            assert torch.equal(ours, right)


def test_a_weight_that_is_trained_after_all_gets_its_gradient() -> None:
    frozen, plain = make_pair()
    for layer in (frozen, plain):
        layer.requires_grad_(True)
        layer(random(5, IN)).square().sum().backward()
    torch.testing.assert_close(frozen.weight.grad, plain.weight.grad)
    torch.testing.assert_close(frozen.bias.grad, plain.bias.grad)


def test_without_gradients_no_graph_is_made() -> None:
    frozen, _ = make_pair()
    assert not frozen(random(5, IN)).requires_grad
    with torch.no_grad():
        assert not frozen(random(5, IN).requires_grad_()).requires_grad


def test_freezing_changes_no_weight_and_no_name() -> None:
    model = make_base("llama", torch.float32)
    before = copy.deepcopy(model.state_dict())
    freeze(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(weight.requires_grad for weight in model.parameters())
    assert all(isinstance(layer, FrozenLinear) for layer in model.modules() if isinstance(layer, nn.Linear))


def test_a_subclass_of_linear_stays_what_it_is() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(Own(IN, OUT), nn.Linear(OUT, IN))
    freeze(model)
    assert [type(layer) for layer in model] == [Own, FrozenLinear]
