"""`FrozenLinear`: an nn.Linear in all but the order of its sums."""

import copy
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softprompt.engine import linear
from softprompt.engine.linear import FrozenLinear, cpu_matmul_of, freeze
from tests.engine.architectures import make_base
from tests.gemma import make_gemma

IN, OUT = 48, 80
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")


def make_pair(bias: bool = True, dtype: torch.dtype = torch.float32, **arguments: Any) -> tuple[nn.Linear, nn.Linear]:
    """A frozen layer and torch's own, with the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = nn.Linear(IN, OUT, bias=bias, dtype=dtype).requires_grad_(False)
    frozen = nn.Sequential(copy.deepcopy(plain))
    freeze(frozen, **arguments)
    assert type(frozen[0]) is FrozenLinear
    return frozen[0], plain


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype)


def result_and_gradient(layer: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
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


def twice_in_place(layer: nn.Linear, x: Tensor) -> Tensor:
    result = layer(x)
    result *= 2
    result[..., 3:].mul_(3)
    return result


@pytest.mark.parametrize("shape", [(IN,), (7, IN), (1, 7, IN), (2, 3, 4, IN)], ids=str)
def test_the_result_may_be_changed_in_place(shape: tuple[int, ...]) -> None:
    frozen, plain = make_pair()
    ours, right = (
        result_and_gradient(lambda x, layer=layer: twice_in_place(layer, x), random(*shape))
        for layer in (frozen, plain)
    )
    for found, wanted in zip(ours, right, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(twice_in_place(frozen, random(*shape)), right[0], rtol=1e-5, atol=1e-5)


@needs_onednn
def test_gemma_3n_which_scales_a_layers_result_in_place() -> None:
    model = make_gemma("gemma3n")
    plain = copy.deepcopy(model)
    freeze(model)
    found = []
    for each in (model, plain):
        ids = torch.arange(1, 15).unsqueeze(0)
        embedded = each.get_input_embeddings()(ids).detach().requires_grad_()
        looked_up = each.get_decoder().get_per_layer_inputs(ids)
        states = each.get_decoder()(inputs_embeds=embedded, per_layer_inputs=looked_up).last_hidden_state
        found.append((states.detach(), *torch.autograd.grad(states.sin().sum(), embedded)))
    for ours, right in zip(*found, strict=True):
        torch.testing.assert_close(ours, right, rtol=1e-3, atol=1e-4)


@needs_onednn
@needs_compiler
def test_a_decoder_layer_compiles_to_one_graph() -> None:
    model = make_base("llama", torch.float32)
    freeze(model)
    layer = model.model.layers[0]
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    for length in (5, 9):
        x = random(1, length, 32)
        positions = model.model.rotary_emb(x, torch.arange(length).unsqueeze(0))
        ours, right = (
            result_and_gradient(lambda states, run=run, at=positions: run(states, position_embeddings=at), x)
            for run in (compiled, layer)
        )
        for found, wanted in zip(ours, right, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@needs_onednn
def test_what_the_compiler_is_told_of_the_operator_holds() -> None:
    x, weight = random(2, 5, IN), random(OUT, IN)
    for bias in (None, random(OUT)):
        torch.library.opcheck(linear._compiled_onednn, (x, weight, bias))
        torch.library.opcheck(linear._compiled_onednn, (random(7, OUT), weight.t(), None))


@needs_onednn
def test_mkl_is_torchs_own_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_onednn", None)  # a call would fail
    frozen, plain = make_pair(cpu_matmul="mkl")
    for ours, right in zip(
        result_and_gradient(frozen, random(7, IN)), result_and_gradient(plain, random(7, IN)), strict=True
    ):
        assert torch.equal(ours, right)


def seconds(**of_library: float) -> Callable[[FrozenLinear, str], float]:
    return lambda layer, library: of_library[library] * layer.in_features


@needs_onednn
def test_auto_takes_the_faster_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "TRIED_SECONDS", 0)
    for times, wanted in (({"onednn": 1, "mkl": 2}, "onednn"), ({"onednn": 2, "mkl": 1}, "mkl")):
        monkeypatch.setattr(linear, "_seconds", seconds(**times))
        model = make_base("llama", torch.float32)
        freeze(model, "auto")
        assert {layer.cpu_matmul for layer in model.modules() if isinstance(layer, FrozenLinear)} == {wanted}
        assert cpu_matmul_of(model) == wanted


@needs_onednn
def test_auto_counts_every_layer_but_an_output_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_shape(layer: FrozenLinear, library: str) -> float:
        tall, wide, output = {"onednn": (3, 1, 0), "mkl": (1, 2, 100)}[library]
        return {OUT: tall, IN: wide}.get(layer.out_features, output)

    monkeypatch.setattr(linear, "TRIED_SECONDS", 0)
    monkeypatch.setattr(linear, "_seconds", of_shape)
    for tall, wide, wanted in ((2, 2, "mkl"), (2, 5, "onednn")):
        layers = [*(nn.Linear(IN, OUT) for _ in range(tall)), *(nn.Linear(OUT, IN) for _ in range(wide))]
        model = nn.Sequential(*layers, nn.Linear(IN, 7))
        freeze(model, "auto")
        assert cpu_matmul_of(model) == wanted


@needs_onednn
def test_a_real_trial_chooses_one_and_leaves_the_weights_alone() -> None:
    model = make_base("llama", torch.float32)
    before = copy.deepcopy(model.state_dict())
    freeze(model, "auto")
    assert cpu_matmul_of(model) in linear.LIBRARIES
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_where_there_is_no_choice_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_seconds", None)  # a call would fail
    for dtype in (torch.float64, torch.bfloat16):
        model = make_base("llama", dtype)
        freeze(model, "auto")
        assert cpu_matmul_of(model) is None


@needs_onednn
def test_frozen_layers_keep_their_library() -> None:
    model = make_base("llama", torch.float32)
    freeze(model, "mkl")
    freeze(model)
    assert cpu_matmul_of(model) == "mkl"


def test_a_trained_bias_gets_its_gradient() -> None:
    layer = nn.Linear(4, 3)
    model = nn.Sequential(layer)
    freeze(model)
    layer.bias.requires_grad_(True)
    model(torch.ones(2, 4)).sum().backward()
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [2, 2, 2]
