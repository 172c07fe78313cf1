"""Loss and gradient against PEFT's own logits of each row alone, to 1e-6, for every method and kind of attention."""

from typing import Any

import pytest
import torch
from peft import PeftModelForCausalLM

from softprompt.engine.model import SharedPrefixModel
from tests.engine.architectures import ARCHITECTURES, METHODS, VIRTUAL_TOKENS, make_pair
from tests.engine.batches import BATCHES, Row, alone, assert_equal_gradients, gradients, padded, prompt_gradients

Pair = tuple[SharedPrefixModel, PeftModelForCausalLM]
EVERY_METHOD = ("llama", "qwen2", "gpt2", "gemma3", "gpt_neox")
SOME_METHODS = ("prompt_tuning", "p_tuning_mlp", "prefix_tuning")
COMBINATIONS = [
    (architecture, method)
    for architecture in ARCHITECTURES
    for method in (METHODS if architecture in EVERY_METHOD else SOME_METHODS)
]


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> Pair:
    ours, peft = make_pair(*request.param)
    assert ours.shares_prefix
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
    losses, of_row = ours.token_losses(**padded(rows, "left"))
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


def test_the_prefix_runs_once_with_batch_one(llama: Pair) -> None:
    ours, _ = llama
    is_cache = "prefix" in ours.peft_config["default"].peft_type.lower()
    with Calls(ours) as shapes:
        ours(**padded(BATCHES["common preamble"]))
    assert shapes == [(1, 4 if is_cache else VIRTUAL_TOKENS + 4), (3, 20 - 4 - 1)]
    with Calls(ours) as shapes:
        ours(**padded(BATCHES["no preamble"]))
    assert shapes == [*([] if is_cache else [(1, VIRTUAL_TOKENS)]), (2, 9 - 1)]


MICRO_BATCHES = [
    [*BATCHES["common preamble"], *BATCHES["equal lengths"]],
    [*BATCHES["labels at once"], *BATCHES["no preamble"], *BATCHES["one token that is a label"]],
    [*BATCHES["preamble longer than the window"], *BATCHES["preamble longer than the window"]],
]


@pytest.mark.parametrize("rows", MICRO_BATCHES, ids=["preamble", "none", "long preamble"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_step_of_micro_batches_is_one_batch(architecture: str, method: str, rows: list[Row]) -> None:
    ours, _ = make_pair(architecture, method)
    batches = [padded(rows[at : at + 2], "left" if at else "right") for at in range(0, len(rows), 2)]
    whole = ours(**padded(rows), num_items_in_batch=20).loss
    whole.backward()
    right = prompt_gradients(ours)

    for batch in batches:
        ours(**batch, num_items_in_batch=20).loss.backward()
    assert_equal_gradients(prompt_gradients(ours), right)

    ours.begin_step(batches)
    losses = []
    for batch in batches:
        loss = ours(**batch, num_items_in_batch=20).loss
        loss.backward()
        losses.append(loss.item())
    assert prompt_gradients(ours) == [None] * len(right), "they reach the prompt at the end of the step"
    ours.end_step()
    assert sum(losses) == pytest.approx(whole.item(), rel=1e-6)
    assert_equal_gradients(prompt_gradients(ours), right)


def test_a_step_runs_one_prefix_of_what_all_its_batches_share(llama: Pair) -> None:
    ours, _ = llama
    is_cache = "prefix" in ours.peft_config["default"].peft_type.lower()
    first, second = (
        BATCHES["common preamble"],
        [([*ids[:2], 50, *ids[3:]], labels) for ids, labels in BATCHES["common preamble"]],
    )
    with Calls(ours) as shapes:
        ours.begin_step([padded(first), padded(second)])
        ours(**padded(first))
        ours(**padded(second))
        ours.end_step()
    assert shapes == [(1, 2 if is_cache else VIRTUAL_TOKENS + 2), (3, 20 - 2 - 1), (3, 20 - 2 - 1)]


def test_after_a_step_every_batch_has_a_prefix_of_its_own(llama: Pair) -> None:
    ours, peft = llama
    ours.begin_step([padded(BATCHES["common preamble"])])
    ours(**padded(BATCHES["common preamble"])).loss.backward()
    ours.end_step()
    ours.end_step()  # nothing is left to do
    ours.zero_grad()
    rows = BATCHES["no preamble"]
    assert ours(**padded(rows)).loss.item() == pytest.approx(torch.cat(alone(peft, rows)).mean().item(), rel=1e-6)
