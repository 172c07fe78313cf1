"""What a GPU runs: the same batches in few shapes, compiled layers, and CUDA graphs."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from softprompt.engine import compiled, decoding, generation
from softprompt.engine.compiled import Graphs
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.packed import packed_losses
from softprompt.engine.packing import pack
from tests.engine.architectures import VOCABULARY, make_base, make_pair, with_prompt
from tests.engine.batches import BATCHES, padded, rows_of

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
METHODS = ["prompt_tuning", "prefix_tuning"]


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """As in the pipeline's stages."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def losses_and_gradient(model: Any, name: str, multiple: int = 1, **how: Any) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    losses, row = packed_losses(model.frozen, model.prompt(), pack(rows_of(name), multiple), **how)
    assert losses.shape == row.shape
    losses.sum().backward()
    gradients = [weight.grad for weight in model.prompt_encoder.parameters() if weight.grad is not None]
    return losses.detach(), gradients


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt_oss", "gemma2"])
def test_filled_up_batches_have_the_same_losses(architecture: str, method: str, name: str) -> None:
    """What stands behind the rows, and between them in attention, is seen by nothing."""
    model, _ = make_pair(architecture, method)
    plain, gradient = losses_and_gradient(model, name)
    for multiple in (2, 3, 4):
        filled, other = losses_and_gradient(model, name, multiple, run=lambda function, tensors: function(*tensors))
        torch.testing.assert_close(filled, plain, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(other, gradient, rtol=1e-5, atol=1e-5)


def test_there_are_few_shapes() -> None:
    model, _ = make_pair("llama", "prompt_tuning")
    shapes = set()
    generator = torch.Generator().manual_seed(0)
    for lengths in torch.randint(20, 200, (100, 8), generator=generator).tolist():
        rows = [torch.randint(0, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]
        batch = pack([{"input_ids": row, "labels": row} for row in rows], 16)

        def noted(function: Any, tensors: list[Tensor]) -> Tensor:
            shapes.add(tuple(tensor.shape for tensor in tensors))
            return torch.zeros(tensors[-1].shape)

        packed_losses(model.frozen, model.prompt(), batch, run=noted)
    assert len(shapes) < 30


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The programs that are compiled within the test, without a compiler."""
    found: list[Any] = []

    def backend(program: Any, _: Any) -> Any:
        found.append(program)
        return program.forward

    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **how: whole(function, backend=backend, **how))
    compiled._compiled.cache_clear()
    yield found
    compiled._compiled.cache_clear()
    torch.compiler.reset()


@pytest.mark.parametrize("method", METHODS)
def test_layers_of_a_kind_share_their_programs(method: str, programs: list[Any]) -> None:
    counts = []
    for layers in (3, 6):
        model, _ = make_pair("qwen2", method, num_hidden_layers=layers)
        for name in ("common preamble", "no preamble"):
            plain, gradient = losses_and_gradient(model, name)
            found, other = losses_and_gradient(model, name, compiled=True)
            torch.testing.assert_close(found, plain)
            torch.testing.assert_close(other, gradient)
        counts.append(len(programs))
    assert 0 < counts[0] == counts[1], "neither for more layers, nor for another batch"
    plain, _ = losses_and_gradient(model, "common preamble")
    assert "forward" not in vars(model.frozen.get_decoder().layers[0]), "nothing stays compiled"


@pytest.mark.filterwarnings("ignore:generate. no CUDA graph")  # on a CPU steps are called, as where no graph can be had
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_cache_of_fixed_size_gives_the_same_answers(
    architecture: str, method: str, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = make_pair(architecture, method)
    batch = padded(BATCHES["common preamble"], side)
    del batch["labels"]
    settings = {"max_new_tokens": 9, "do_sample": False, "pad_token_id": 0}
    others = ({}, {"num_beams": 2}, {"guidance_scale": 1.5})
    expected = [model.generate(**batch, **settings, **more) for more in others]
    used = []
    static = decoding._static
    monkeypatch.setattr(decoding, "_static", lambda *given: used.append(given) or static(*given))
    monkeypatch.setattr(generation, "can_be_captured", lambda _: True)
    assert torch.equal(model.generate(**batch, **settings), expected[0])
    assert len(used) == 1
    assert torch.equal(model.generate(**batch, **settings, num_beams=2), expected[1])
    assert len(used) == 1, "beams are reordered in a cache that grows"
    assert torch.equal(model.generate(**batch, **settings, guidance_scale=1.5), expected[2])
    assert len(used) > 1, "its second forward has a cache of its own"
    settings["max_new_tokens"] = 2
    before = len(used)
    model.generate(**batch, **settings)
    assert len(used) == before, "too few steps to gain from"
    assert "forward" not in vars(model.frozen), "it is replaced for the call alone"


def on_gpu(architecture: str, method: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    model = with_prompt(SharedPrefixModel, make_base(architecture, dtype, **changes), method)
    return model.cuda()


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_a_replayed_graph_gives_the_bits_of_a_plain_forward(architecture: str, method: str, dtype: torch.dtype) -> None:
    model, graphs = on_gpu(architecture, method, dtype), Graphs()
    for _ in range(3):  # seen, captured, replayed
        for name in ("common preamble", "no preamble", "labels with gaps"):
            plain, gradient = losses_and_gradient(model, name)
            replayed, other = losses_and_gradient(model, name, run=graphs)
            assert torch.equal(replayed, plain)
            assert all(torch.equal(a, b) for a, b in zip(other, gradient, strict=True))
    assert graphs._made
    assert not graphs._failed


@needs_gpu
def test_gradients_of_replays_add_up() -> None:
    model, graphs = on_gpu("llama", "prompt_tuning"), Graphs()
    sums = []
    for how in ({}, {"run": graphs}):
        model.zero_grad()
        for name in ("common preamble", "no preamble", "common preamble", "common preamble", "no preamble"):
            packed_losses(model.frozen, model.prompt(), pack(rows_of(name)), **how)[0].sum().backward()
        sums.append(model.prompt_encoder.default.embedding.weight.grad.clone())
    assert torch.equal(*sums)


@needs_gpu
def test_compiled_layers_give_nearly_the_same() -> None:
    for method in METHODS:
        model = on_gpu("qwen2", method)
        plain, gradient = losses_and_gradient(model, "common preamble")
        found, other = losses_and_gradient(model, "common preamble", compiled=True, run=Graphs())
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(other, gradient, rtol=1e-3, atol=1e-3)


@needs_gpu
def test_a_program_that_asks_the_host_is_run_without_graphs() -> None:
    model, graphs = on_gpu("qwen3_moe", "prompt_tuning"), Graphs()
    plain, _ = losses_and_gradient(model, "common preamble")
    stream = torch.cuda.current_stream()
    found, _ = losses_and_gradient(model, "common preamble", run=graphs)
    with pytest.warns(UserWarning, match="no CUDA graphs from here on"):
        losses_and_gradient(model, "common preamble", run=graphs)
    assert torch.cuda.current_stream() == stream
    again, _ = losses_and_gradient(model, "common preamble", run=graphs)
    assert torch.equal(found, plain)
    assert torch.equal(again, plain)


@needs_gpu
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen3_moe"])
def test_answers_by_graph_are_those_of_rows_alone(architecture: str, method: str) -> None:
    model = on_gpu(architecture, method)
    batch = {name: of.cuda() for name, of in padded(BATCHES["common preamble"], "left").items() if name != "labels"}
    settings: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    together = model.generate(**batch, **settings)[:, -12:]
    for row, (ids, _) in enumerate(BATCHES["common preamble"]):
        alone = model.generate(input_ids=torch.tensor([ids]).cuda(), **settings)[0, -12:]
        assert torch.equal(together[row], alone)
    first = model.generate(**batch, **settings, guidance_scale=1.5)[:, -12:]
    assert first.shape == together.shape
