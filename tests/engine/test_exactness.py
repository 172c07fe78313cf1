"""Loss and gradient against PEFT's own logits of each row alone, to 1e-6, for every method and kind of attention."""

from typing import Any

import pytest
import torch
from peft import PeftModelForCausalLM

from softprompt.engine.model import SharedPrefixModel
from tests.engine.architectures import ARCHITECTURES, METHODS, UNPACKED, VIRTUAL_TOKENS, make_pair
from tests.engine.batches import BATCHES, Row, alone, assert_equal_gradients, gradients, padded, prompt_gradients

Pair = tuple[SharedPrefixModel, PeftModelForCausalLM]
EVERY_METHOD = ("llama", "qwen2", "gpt2", "gemma3", "gpt_neox")
SOME_METHODS = ("prompt_tuning", "prefix_tuning")
COMBINATIONS = [
    (architecture, method)
    for architecture in ARCHITECTURES
    for method in (METHODS if architecture in EVERY_METHOD else SOME_METHODS)
]


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> Pair:
    ours, peft = make_pair(*request.param)
    assert ours.packs_rows == (request.param[0] not in UNPACKED)
    return ours, peft


@pytest.fixture(scope="module", params=METHODS)
def llama(request: pytest.FixtureRequest) -> Pair:
    return make_pair("llama", request.param)


@pytest.mark.parametrize("rows", BATCHES.values(), ids=BATCHES.keys())
def test_loss_and_gradient_are_those_of_rows_alone(pair: Pair, rows: list[Row]) -> None:
    ours, peft = pair
    right = torch.cat(alone(peft, rows)).mean()
    right_gradients = gradients(peft, right)
    for side in ("right", "left"):
        loss = ours(**padded(rows, side)).loss
        assert loss.item() == pytest.approx(right.item(), rel=1e-6)
        assert_equal_gradients(gradients(ours, loss), right_gradients)


@pytest.mark.parametrize("rows", [BATCHES["one row"], BATCHES["equal lengths"]])
def test_without_a_mask_nothing_is_padding(llama: Pair, rows: list[Row]) -> None:
    ours, peft = llama
    batch = padded(rows)
    del batch["attention_mask"]
    assert ours(**batch).loss.item() == pytest.approx(torch.cat(alone(peft, rows)).mean().item(), rel=1e-6)


def test_padding_may_stand_in_the_middle(llama: Pair) -> None:
    ours, peft = llama
    rows = BATCHES["common preamble"]
    batch = padded(rows)
    order = torch.randperm(batch["input_ids"].shape[1], generator=torch.Generator().manual_seed(0)).tolist()
    for at, (ids, labels) in enumerate(rows):
        places = sorted(order[: len(ids)])
        for name, values, padding in (("input_ids", ids, 50), ("attention_mask", [1] * len(ids), 0)):
            batch[name][at] = padding
            batch[name][at, places] = torch.tensor(values)
        batch["labels"][at] = -100
        batch["labels"][at, places] = torch.tensor(labels)
    assert ours(**batch).loss.item() == pytest.approx(torch.cat(alone(peft, rows)).mean().item(), rel=1e-6)


def test_token_losses_name_their_rows(llama: Pair) -> None:
    ours, peft = llama
    rows = BATCHES["labels at once"] + BATCHES["common preamble"]
    losses, of_row = ours.token_losses([{"input_ids": ids, "labels": labels} for ids, labels in rows])
    for at, right in enumerate(alone(peft, rows)):
        assert sorted(losses[of_row == at].tolist()) == pytest.approx(sorted(right.tolist()), rel=1e-6)


def test_a_batch_without_labels_has_a_loss_and_a_gradient_of_zero(llama: Pair) -> None:
    ours, _ = llama
    rows = [(ids, [-100] * len(ids)) for ids, _ in BATCHES["common preamble"]]
    loss = ours(**padded(rows), num_items_in_batch=7).loss
    assert loss.item() == 0
    assert not any(by.any() for by in gradients(ours, loss))


@pytest.mark.parametrize("items", [1, 100, torch.tensor(100)])
def test_num_items_in_batch_divides_the_sum(llama: Pair, items: Any) -> None:
    ours, peft = llama
    rows = BATCHES["labels at once"]
    loss = ours(**padded(rows), num_items_in_batch=items).loss
    assert loss.item() == pytest.approx(torch.cat(alone(peft, rows)).sum().item() / float(items), rel=1e-6)


class Calls:
    """(rows, length) of everything that went through a Llama's first layer."""

    def __init__(self, model: SharedPrefixModel) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.hook = model.frozen.model.layers[0].register_forward_pre_hook(
            lambda _, arguments: self.shapes.append(tuple(arguments[0].shape[:2]))
        )

    def __enter__(self) -> list[tuple[int, ...]]:
        return self.shapes

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def test_everything_runs_once_in_one_sequence(llama: Pair) -> None:
    """The prompt and the preamble once; of each row what follows but its last token; no padding."""
    ours, _ = llama
    virtual = 0 if "prefix" in ours.peft_config["default"].peft_type.lower() else VIRTUAL_TOKENS
    with Calls(ours) as shapes:
        ours(**padded(BATCHES["common preamble"]))
    assert shapes == [(1, virtual + 4 + (14 - 5) + (9 - 5) + (20 - 5))]
    with Calls(ours) as shapes:
        ours(**padded(BATCHES["no preamble"]))
    assert shapes == [(1, virtual + 7 + 8)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_micro_batches_add_up_to_one_batch(architecture: str, method: str) -> None:
    ours, _ = make_pair(architecture, method)
    rows = [*BATCHES["labels at once"], *BATCHES["common preamble"], *BATCHES["one token that is a label"]]
    whole = ours(**padded(rows), num_items_in_batch=20).loss
    whole.backward()
    right, losses = prompt_gradients(ours), []
    for at in range(0, len(rows), 2):
        loss = ours(**padded(rows[at : at + 2], "left" if at else "right"), num_items_in_batch=20).loss
        loss.backward()
        losses.append(loss.item())
    assert sum(losses) == pytest.approx(whole.item(), rel=1e-6)
    assert_equal_gradients(prompt_gradients(ours), right)


@pytest.mark.parametrize("setting", [{"return_dict": True}, {"use_cache": False}, {"output_attentions": False}])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_settings_of_a_loop_lose_no_number_of_items(architecture: str, setting: dict[str, bool]) -> None:
    ours, peft = make_pair(architecture, "prompt_tuning")
    rows = BATCHES["common preamble"]
    loss = ours(**padded(rows), num_items_in_batch=100, **setting).loss
    assert loss.item() == pytest.approx(torch.cat(alone(peft, rows)).sum().item() / 100, rel=1e-6)
