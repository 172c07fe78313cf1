"""Whatever `generate` is told, each row of a batch has the answer that PEFT's model gives to that row alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModelForCausalLM
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from softprompt.engine.model import SharedPrefixModel
from tests.engine.architectures import make_pair
from tests.engine.batches import SHORT, answer_alone, padded, row

ROWS = [row(n, 0, SHORT)[0] for n in (9, 5, 14, 9)]
NEW = 8
END, PAD = 2, 0
SETTINGS: dict[str, dict[str, Any]] = {
    "bad_words": {"bad_words_ids": [[token] for token in range(3, 60)]},
    "beams": {"num_beams": 3},
    "beams_and_a_penalty": {"num_beams": 2, "repetition_penalty": 1.8},
    "begin_suppress": {"begin_suppress_tokens": list(range(3, 80))},
    "encoder_ngram": {"encoder_no_repeat_ngram_size": 1},
    "encoder_penalty": {"encoder_repetition_penalty": 3.0},
    "guidance": {"guidance_scale": 2.0},
    "ngram": {"no_repeat_ngram_size": 1},
    "penalty": {"repetition_penalty": 1.8},
    "sequence_bias": {"sequence_bias": [[[50], 30.0], [[50, 51], 60.0]]},
    "suppress": {"suppress_tokens": list(range(3, 60))},
}


class NotOfTheRow(LogitsProcessor):
    """Bans every token that the ids hold."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores.scatter(1, input_ids, -torch.inf)


class HasTwoOfAKind(StoppingCriteria):
    """Ends an answer at a token that the ids held before."""

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return (input_ids[:, :-1] == input_ids[:, -1:]).any(dim=1)


def of_the_row(_: int, ids: Tensor) -> list[int]:
    """Allows the tokens of the ids, and the end token."""
    return [*ids.tolist(), END]


OBJECTS: dict[str, Callable[[], dict[str, Any]]] = {
    "logits_processor": lambda: {"logits_processor": [NotOfTheRow()]},
    "stopping_criteria": lambda: {"stopping_criteria": [HasTwoOfAKind()]},
    "prefix_allowed_tokens_fn": lambda: {"prefix_allowed_tokens_fn": of_the_row},
}


@pytest.fixture(scope="module", params=["prompt_tuning", "prefix_tuning"])
def pair(request: pytest.FixtureRequest) -> tuple[SharedPrefixModel, PeftModelForCausalLM]:
    return make_pair("llama", request.param, initializer_range=0.4, tie_word_embeddings=False)


def settings_of(name: str) -> dict[str, Any]:
    usual = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD, "eos_token_id": END}
    return usual | (SETTINGS[name] if name in SETTINGS else OBJECTS[name]())


def up_to_the_end(answer: list[int]) -> list[int]:
    """Without the padding after it."""
    while answer and answer[-1] == PAD:
        answer = answer[:-1]
    return answer[: answer.index(END) + 1] if END in answer else answer


def batch(side: str = "left") -> dict[str, Tensor]:
    rows = padded([(ids, ids) for ids in ROWS], side)
    return {name: rows[name] for name in ("input_ids", "attention_mask")}


def answers(model: SharedPrefixModel, side: str = "left", **settings: Any) -> list[list[int]]:
    given = batch(side)
    sequences = model.generate(**given, **settings)
    width = given["input_ids"].shape[1]
    assert torch.equal(sequences[:, :width], given["input_ids"])
    return [up_to_the_end(answer) for answer in sequences[:, width:].tolist()]


def alone(peft: PeftModelForCausalLM, **settings: Any) -> list[list[int]]:
    found = []
    for ids in ROWS:
        given = torch.tensor([ids])
        sequence = peft.generate(input_ids=given, attention_mask=torch.ones_like(given), **settings)
        found.append(up_to_the_end(sequence[0, len(ids) :].tolist()))
    return found


@pytest.mark.parametrize("name", [*SETTINGS, *OBJECTS])
@pytest.mark.parametrize("side", ["left", "right"])
def test_every_setting_holds_as_for_a_row_alone(pair: Any, name: str, side: str) -> None:
    ours, peft = pair
    right = alone(peft, **settings_of(name))
    assert right != [answer_alone(peft, ids, NEW) for ids in ROWS], "the setting changes nothing here"
    assert answers(ours, side, **settings_of(name)) == right


def test_min_new_tokens_hold_off_the_end(pair: Any) -> None:
    ours, peft = pair
    end = answer_alone(peft, ROWS[0], 1)[0]
    settings = {**settings_of("penalty"), "min_new_tokens": 4, "eos_token_id": end}
    assert answers(ours, **settings) == alone(peft, **settings)


def test_the_function_that_allows_tokens_is_told_the_row_of_the_batch(pair: Any) -> None:
    ours, _ = pair
    mine = [[30, 31], [40, 41], [50, 51], [60, 61]]
    found = answers(
        ours, **{**settings_of("prefix_allowed_tokens_fn"), "prefix_allowed_tokens_fn": lambda at, _: mine[at]}
    )
    assert all(set(answer) <= set(allowed) for answer, allowed in zip(found, mine, strict=True))


@pytest.mark.parametrize(
    "setting", [{"use_cache": False}, {"prompt_lookup_num_tokens": 3}, {"cache_implementation": "static"}]
)
@pytest.mark.parametrize("owner", ["call", "config", "model"])
@pytest.mark.filterwarnings("ignore:generate. not used after a prompt")
def test_what_only_saves_time_changes_no_answer(
    pair: Any, setting: dict[str, Any], owner: str, monkeypatch: Any
) -> None:
    ours, peft = pair
    usual = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD}
    right = [up_to_the_end(answer_alone(peft, ids, NEW)) for ids in ROWS]
    if owner == "model":
        monkeypatch.setattr(ours.frozen, "generation_config", GenerationConfig(**setting))
    passed = {"generation_config": GenerationConfig(**usual, **setting)} if owner == "config" else usual
    assert answers(ours, **passed, **(setting if owner == "call" else {})) == right


def test_an_assistant_is_told_to_be_of_no_use(pair: Any) -> None:
    ours, peft = pair
    with pytest.warns(UserWarning, match="not used after a prompt, the answers are the same: assistant_model"):
        found = answers(ours, max_new_tokens=NEW, do_sample=False, pad_token_id=PAD, assistant_model=peft.base_model)
    assert found == [up_to_the_end(answer_alone(peft, ids, NEW)) for ids in ROWS]


@pytest.mark.parametrize("name", ["penalty", "beams", "stopping_criteria"])
def test_settings_hold_where_nothing_is_shared(name: str) -> None:
    with pytest.warns(UserWarning, match="no shared prefix"):
        ours, peft = make_pair("gpt_neo", "prompt_tuning", initializer_range=0.4)
    settings = settings_of(name) | {"use_cache": False}
    ours.shares_prefix = False
    assert answers(ours, **settings) == alone(peft, **settings)


@pytest.mark.parametrize("name", ["penalty", "ngram"])
def test_the_base_model_has_its_own_answers(pair: Any, name: str) -> None:
    ours, _ = pair
    with ours.disable_adapter():
        found = answers(ours, **settings_of(name))
    right = []
    for ids in ROWS:
        sequence = ours.frozen.generate(torch.tensor([ids]), **settings_of(name))
        right.append(up_to_the_end(sequence[0, len(ids) :].tolist()))
    assert found == right


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"negative_prompt_ids": torch.tensor([[3]])}, "negative_prompt_ids"),
        ({"past_key_values": ()}, "past_key_values"),
        ({"custom_generate": "somewhere/else"}, "custom_generate"),
        ({"assistant_ensemble_weight": 0.5}, "assistant_ensemble_weight"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "contrastive_search"),
        ({"max_new_token": 3}, "max_new_token"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(pair: Any, setting: dict[str, Any], named: str) -> None:
    ours, _ = pair
    with pytest.raises(ValueError, match=f"generate: {named}: not after a prompt; allowed: "):
        ours.generate(**batch(), max_new_tokens=2, do_sample=False, **setting)


def test_the_function_of_allowed_tokens_is_given_the_number_of_the_answer() -> None:
    """As by PEFT, of several sampled answers to rows of unequal length."""
    ours, peft = make_pair("llama", "prompt_tuning")
    batch = {name: values for name, values in padded([(ids, ids) for ids in ROWS], "left").items() if name != "labels"}
    settings = {"max_new_tokens": 3, "do_sample": True, "num_return_sequences": 2, "pad_token_id": PAD}

    def only(row: int, ids: Tensor) -> list[int]:
        return [10 + row]

    expected = peft.generate(**batch, **settings, prefix_allowed_tokens_fn=only)[:, -3:]
    assert torch.equal(ours.generate(**batch, **settings, prefix_allowed_tokens_fn=only)[:, -3:], expected)
    assert expected[:, 0].tolist() == list(range(10, 18))


def test_arguments_by_position() -> None:
    ours, _ = make_pair("llama", "prompt_tuning")
    ids = torch.tensor([ROWS[0]])
    config = GenerationConfig(max_new_tokens=3, do_sample=False, pad_token_id=PAD)
    assert torch.equal(ours.generate(ids, config), ours.generate(input_ids=ids, generation_config=config))
    with pytest.raises(ValueError, match="generate: allowed by position: inputs and generation_config"):
        ours.generate(ids, config, None)


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
def test_without_a_mask_padding_is_told_by_its_token(method: str) -> None:
    """As by transformers, unless padding is what ends an answer."""
    ours, _ = make_pair("llama", method)
    batch = padded([(ids, ids) for ids in ROWS], "left")
    settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": PAD}
    masked = ours.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **settings)
    assert torch.equal(ours.generate(batch["input_ids"], **settings), masked)
    ends = settings | {"eos_token_id": [END, PAD]}
    everything = torch.ones_like(batch["attention_mask"])
    unmasked = ours.generate(batch["input_ids"], attention_mask=everything, **ends)
    assert torch.equal(ours.generate(batch["input_ids"], **ends), unmasked)
