"""Logits at labels only, in chunks, by the model's own path; cross-entropy as torch's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from softprompt.engine import losses
from softprompt.engine.losses import head_logits, label_losses, losses_of_logits
from softprompt.engine.packed import packed_losses
from softprompt.engine.packing import pack
from tests.engine.architectures import ARCHITECTURES, METHODS, VIRTUAL_TOKENS, VOCABULARY, make_base, make_pair
from tests.engine.batches import BATCHES, alone, assert_equal_gradients, gradients, padded, rows_of

ODD = 1009  # a vocabulary that no other size can be mistaken for
CHUNK = 4


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LABELS_AT_ONCE", CHUNK)


class Positions(TorchDispatchMode):
    """The most positions that any tensor with the vocabulary as a dimension had, the model's weights left out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            of_logits = isinstance(tensor, Tensor) and ODD in tensor.shape
            if of_logits and tensor.untyped_storage().data_ptr() not in self.weights:
                self.most = max(self.most, tensor.numel() // ODD)
        return result


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_no_tensor_has_batch_by_length_by_vocabulary(architecture: str, method: str, dtype: torch.dtype) -> None:
    ours, peft = make_pair(architecture, method, dtype=dtype, vocab_size=ODD)
    batch = padded(BATCHES["common preamble"])
    with Positions(ours) as seen:
        ours(**batch).loss.backward()
        with torch.no_grad():
            ours.token_losses(rows_of("common preamble"))
    assert seen.most == CHUNK
    with Positions(peft) as seen:
        peft(**batch)
    assert seen.most >= batch["labels"].numel(), "what is measured is there to be seen"


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "granite"])
def test_chunks_give_the_loss_and_gradient_of_one(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = make_pair(architecture, "prompt_tuning")
    batch = padded(BATCHES["common preamble"])  # 16 labels
    right = ours(**batch).loss
    right_gradients = gradients(ours, right)
    for at_once in (1, 5, 15, 16):
        monkeypatch.setattr(losses, "LABELS_AT_ONCE", at_once)
        loss = ours(**batch).loss
        assert loss.item() == pytest.approx(right.item(), rel=1e-12)
        assert_equal_gradients(gradients(ours, loss), right_gradients, relative=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_road_from_states_to_logits_is_the_models_own(architecture: str) -> None:
    model = make_base(architecture)
    ids = torch.arange(3, 12).unsqueeze(0)
    states = model.get_decoder()(input_ids=ids).last_hidden_state[0]
    logits = head_logits(model, states)
    assert logits.shape == (9, VOCABULARY)
    torch.testing.assert_close(logits, model(input_ids=ids).logits[0], rtol=1e-12, atol=1e-12, check_dtype=False)


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3", "granite"])
def test_capping_and_scaling_of_logits_are_on_that_road(architecture: str) -> None:
    model = make_base(architecture)
    states = model.get_decoder()(input_ids=torch.arange(3, 12).unsqueeze(0)).last_hidden_state[0]
    assert not torch.allclose(head_logits(model, states), model.lm_head(states), rtol=0.01)


def fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("from the head")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_decoder_is_as_it_was_even_after_an_error(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_base(architecture)
    decoder = model.get_decoder()
    right = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    head_logits(model, torch.zeros(2, 32, dtype=torch.float64))
    assert "forward" not in vars(decoder)
    with monkeypatch.context() as patch:
        patch.setattr(model.get_output_embeddings(), "forward", fail)
        with pytest.raises(RuntimeError, match="from the head"):
            head_logits(model, torch.zeros(2, 32, dtype=torch.float64))
    assert "forward" not in vars(decoder)
    assert torch.equal(model(input_ids=torch.tensor([[5, 6, 7]])).logits, right)


@pytest.mark.parametrize("fails", [False, True])
def test_a_forward_that_a_hook_put_there_stays(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_base("llama")
    decoder = model.get_decoder()

    def hooked(*args: Any, **kwargs: Any) -> Any:
        return type(decoder).forward(decoder, *args, **kwargs)

    decoder.forward = hooked
    if fails:
        monkeypatch.setattr(model.lm_head, "forward", fail)
        with pytest.raises(RuntimeError, match="from the head"):
            head_logits(model, torch.zeros(2, 32, dtype=torch.float64))
    else:
        head_logits(model, torch.zeros(2, 32, dtype=torch.float64))
    assert vars(decoder)["forward"] is hooked


def states_and_labels(model: Any, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = scale * torch.randn(11, 32, generator=generator).to(model.dtype)
    return states.requires_grad_(), torch.randint(0, VOCABULARY, (11,), generator=generator)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4], ids=["flat", "usual", "steep"])
def test_label_losses_are_torchs_cross_entropy(scale: float) -> None:
    model = make_base("llama").requires_grad_(False)
    states, labels = states_and_labels(model, scale)
    weights = torch.linspace(-1, 2, len(labels), dtype=torch.float64)

    def both(loss: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        value = loss()
        return value, torch.autograd.grad(value, states, weights)[0]

    ours = both(lambda: label_losses(model, states, labels))
    right = both(lambda: cross_entropy(model.lm_head(states), labels, reduction="none"))
    torch.testing.assert_close(ours, right, rtol=1e-9, atol=1e-9)


def test_label_losses_of_bfloat16_are_float32() -> None:
    model = make_base("llama", torch.bfloat16).requires_grad_(False)
    states, labels = states_and_labels(model)
    ours = label_losses(model, states, labels)
    right = cross_entropy(model.lm_head(states).float(), labels, reduction="none")
    torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-5)
    gradient, right_gradient = (torch.autograd.grad(value.sum(), states)[0] for value in (ours, right))
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient, right_gradient, rtol=2e-2, atol=2e-2)


def test_no_labels_have_no_losses() -> None:
    model = make_base("llama").requires_grad_(False)
    states = torch.zeros(0, 32, dtype=torch.float64, requires_grad=True)
    ours = label_losses(model, states, torch.zeros(0, dtype=torch.long))
    assert ours.shape == (0,)
    assert torch.autograd.grad(ours.sum(), states)[0].shape == (0, 32)


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
def test_losses_of_full_logits_are_those_of_rows_alone(method: str) -> None:
    """With virtual tokens in the logits, which then predict the first token, and without."""
    _, peft = make_pair("llama", method)
    rows = BATCHES["labels at once"]
    batch = padded(rows)
    logits = peft(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert logits.shape[1] == batch["labels"].shape[1] + (VIRTUAL_TOKENS if method == "prompt_tuning" else 0)
    found, of_row = losses_of_logits(logits, batch["labels"])
    for at, right in enumerate(alone(peft, rows)):
        torch.testing.assert_close(found[of_row == at], right, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["common preamble", "no preamble", "labels at once", "one token that is a label"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_a_model_without_a_prompt_is_measured_too(architecture: str, name: str) -> None:
    model = make_base(architecture)
    found, of_row = packed_losses(model, None, pack(rows_of(name)))
    for at, (ids, labels) in enumerate(BATCHES[name]):
        logits = model(input_ids=torch.tensor([ids])).logits[0].double()
        wanted = torch.tensor(labels[1:], dtype=torch.long)
        right = cross_entropy(logits[:-1], wanted, reduction="none")  # 0 where there is no label
        expected = [loss for loss, label in zip(right.tolist(), labels[1:], strict=True) if label != -100]
        assert found[of_row == at].tolist() == pytest.approx(expected, rel=1e-6)
