"""Greedy answers equal to those of each row alone without a cache; the rest of `generate` as transformers has it."""

from typing import Any

import pytest
import torch
from peft import PeftModelForCausalLM
from torch import Tensor
from transformers import GenerationConfig

from softprompt.engine.model import SharedPrefixModel
from tests.engine.architectures import METHODS, VOCABULARY, make_pair
from tests.engine.batches import LONG, SHORT, answer_alone, padded, row

Pair = tuple[SharedPrefixModel, PeftModelForCausalLM]
# So that the next token hangs on what stands before it, and isn't the last one again.
ROUGH = {"initializer_range": 0.4, "tie_word_embeddings": False}
NEW = 8
PAD = 0
QUESTIONS = {
    "no preamble": [row(n, 0)[0] for n in (6, 11, 3)],
    "common preamble": [row(n, 0, SHORT)[0] for n in (9, 5, 14)],
    "longer than the window": [row(n, 0, LONG)[0] for n in (26, 31, 25)],
    "a single token": [row(n, 0)[0] for n in (1, 7)],
    "single tokens": [[5], [90]],
    "equal rows": [[5, 6, 7], [5, 6, 7]],
    "one row": [row(8, 0)[0]],
}


@pytest.fixture(scope="module", params=METHODS)
def llama(request: pytest.FixtureRequest) -> Pair:
    return make_pair("llama", request.param, **ROUGH)


@pytest.fixture(scope="module")
def tuned() -> Pair:
    return make_pair("llama", "prompt_tuning", **ROUGH)


def questions(name: str, side: str = "left") -> dict[str, Tensor]:
    batch = padded([(ids, ids) for ids in QUESTIONS[name]], side)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


EVERY_METHOD = [(architecture, method) for architecture in ("llama", "qwen2", "gpt2", "gemma3") for method in METHODS]
ONE_METHOD = [
    (architecture, "prompt_tuning") for architecture in ("gemma2", "mistral", "gpt_neo", "gpt_neox", "granite", "opt")
]


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize(("architecture", "method"), EVERY_METHOD + ONE_METHOD)
def test_greedy_answers_are_those_of_rows_alone(architecture: str, method: str, name: str) -> None:
    ours, peft = make_pair(architecture, method, **ROUGH)
    right = [answer_alone(peft, ids, NEW) for ids in QUESTIONS[name]]
    assert len({token for answer in right for token in answer}) > 1, "a model that always says the same tests nothing"
    for side in ("left", "right"):
        batch = questions(name, side)
        sequences = ours.generate(**batch, max_new_tokens=NEW, do_sample=False, pad_token_id=PAD)
        assert torch.equal(sequences[:, :-NEW], batch["input_ids"]), "sequences begin with the rows as given"
        assert sequences[:, -NEW:].tolist() == right


def test_rows_stop_at_their_end_token_and_are_filled_with_padding(llama: Pair) -> None:
    ours, peft = llama
    free = [answer_alone(peft, ids, NEW) for ids in QUESTIONS["common preamble"]]
    end = free[0][2]
    stopped = [answer[: answer.index(end) + 1] if end in answer else answer for answer in free]
    width = max(map(len, stopped))
    assert min(map(len, stopped)) < width, "one row ends earlier than another"
    batch = questions("common preamble")
    sequences = ours.generate(**batch, max_new_tokens=NEW, do_sample=False, eos_token_id=end, pad_token_id=99)
    length = batch["input_ids"].shape[1]
    assert sequences[:, length:].tolist() == [answer + [99] * (width - len(answer)) for answer in stopped]


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])  # without a window of attention and with one
@pytest.mark.parametrize("name", ["common preamble", "equal rows"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_all_rows_may_be_padded(architecture: str, name: str, side: str) -> None:
    """As `pad_to_multiple_of` does."""
    ours, peft = make_pair(architecture, "prompt_tuning", **ROUGH)
    more = (3, 0) if side == "left" else (0, 3)
    batch = {key: torch.nn.functional.pad(value, more) for key, value in questions(name, side).items()}
    sequences = ours.generate(**batch, max_new_tokens=NEW, do_sample=False, pad_token_id=PAD)
    assert torch.equal(sequences[:, :-NEW], batch["input_ids"])
    assert sequences[:, -NEW:].tolist() == [answer_alone(peft, ids, NEW) for ids in QUESTIONS[name]]


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_without_a_padding_token_the_end_token_fills(architecture: str) -> None:
    ours, peft = make_pair(architecture, "prompt_tuning", **ROUGH)
    ours.frozen.generation_config.pad_token_id = None
    free = [answer_alone(peft, ids, NEW) for ids in QUESTIONS["no preamble"]]
    end = next(token for token in free[0] if not all(token in answer for answer in free))
    stopped = [answer[: answer.index(end) + 1] if end in answer else answer for answer in free]
    batch = questions("no preamble")
    sequences = ours.generate(**batch, max_new_tokens=NEW, do_sample=False, eos_token_id=end)
    right = [answer + [end] * (NEW - len(answer)) for answer in stopped]
    assert sequences[:, batch["input_ids"].shape[1] :].tolist() == right


def test_the_same_call_gives_the_same_answers_and_leaves_forward_alone(llama: Pair) -> None:
    ours, _ = llama
    batch = questions("common preamble")
    before = ours(**batch).logits
    first, second = (ours.generate(**batch, max_new_tokens=NEW, do_sample=False, pad_token_id=PAD) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(ours(**batch).logits, before)


def test_rows_may_come_in_any_argument(tuned: Pair) -> None:
    ours, _ = tuned
    rows = torch.tensor([row(6, 0)[0], row(6, 1)[0]])  # no mask: no padding
    settings: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD}
    right = ours.generate(input_ids=rows, **settings)
    assert right.shape == (2, 6 + NEW)
    assert torch.equal(ours.generate(rows, **settings), right)
    assert torch.equal(ours.generate(inputs=rows, **settings), right)
    assert torch.equal(ours.generate(rows, attention_mask=torch.ones_like(rows), **settings), right)


def test_max_length_counts_the_rows_as_given(llama: Pair) -> None:
    ours, peft = llama
    batch = questions("common preamble")  # 14 tokens wide
    right = [answer_alone(peft, ids, 3) for ids in QUESTIONS["common preamble"]]
    settings: dict[str, Any] = {"do_sample": False, "pad_token_id": PAD}
    assert ours.generate(**batch, max_length=14 + 3, **settings)[:, 14:].tolist() == right


def test_a_length_of_none_is_none_given(tuned: Pair) -> None:
    ours, _ = tuned
    settings: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": PAD}
    right = ours.generate(**questions("no preamble"), **settings)
    assert torch.equal(ours.generate(**questions("no preamble"), max_length=None, min_length=None, **settings), right)


@pytest.mark.parametrize("owner", ["call", "model"])
def test_max_length_of_a_config_counts_the_rows_as_given(tuned: Pair, owner: str, monkeypatch: Any) -> None:
    ours, peft = tuned
    right = [answer_alone(peft, ids, 3) for ids in QUESTIONS["common preamble"]]
    config = GenerationConfig(max_length=14 + 3, do_sample=False, pad_token_id=PAD)
    if owner == "model":
        monkeypatch.setattr(ours.frozen, "generation_config", config)
    passed = {"generation_config": config} if owner == "call" else {}
    assert ours.generate(**questions("common preamble"), **passed)[:, 14:].tolist() == right
    assert config.max_length == 14 + 3, "the config stays as it was"


@pytest.mark.parametrize("owner", ["argument", "config"])
def test_min_length_counts_the_rows_as_given(tuned: Pair, owner: str) -> None:
    ours, peft = tuned
    ids = QUESTIONS["one row"][0]
    end = answer_alone(peft, ids, NEW)[0]
    settings: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": end, "pad_token_id": PAD}
    rows = torch.tensor([ids])
    assert ours.generate(rows, **settings).shape[1] == len(ids) + 1
    settings["min_length"] = len(ids) + 4
    passed = settings if owner == "argument" else {"generation_config": GenerationConfig(**settings)}
    answer = ours.generate(rows, **passed)[0, len(ids) :]
    assert len(answer) >= 4
    assert end not in answer[:4].tolist()


def test_a_generation_config_is_followed(tuned: Pair) -> None:
    ours, peft = tuned
    config = GenerationConfig(max_new_tokens=3, num_beams=2, num_return_sequences=2, do_sample=False, pad_token_id=PAD)
    rows = torch.tensor(QUESTIONS["one row"])
    assert torch.equal(ours.generate(rows, generation_config=config), peft.generate(rows, generation_config=config))


def test_sampling_gives_several_sequences_and_follows_the_seed(llama: Pair) -> None:
    ours, _ = llama
    batch = questions("common preamble")

    def sample(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return ours.generate(**batch, max_new_tokens=NEW, do_sample=True, num_return_sequences=3, pad_token_id=PAD)

    sequences = sample(0)
    assert sequences.shape == (3 * 3, 14 + NEW)
    assert torch.equal(sequences[:, :14], batch["input_ids"].repeat_interleave(3, dim=0))
    assert len({tuple(answer) for answer in sequences.tolist()}) == 9
    assert torch.equal(sample(0), sequences)
    assert not torch.equal(sample(1), sequences)


@pytest.mark.parametrize("returned", [1, 2])
def test_beams_are_those_of_peft(llama: Pair, returned: int) -> None:
    ours, peft = llama
    ids = torch.tensor(QUESTIONS["one row"])
    settings: dict[str, Any] = {"max_new_tokens": NEW, "num_beams": 2, "do_sample": False, "pad_token_id": PAD}
    settings["num_return_sequences"] = returned
    right = peft.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings)
    assert right.shape == (returned, ids.shape[1] + NEW)
    assert torch.equal(ours.generate(ids, **settings), right)


def test_beams_of_a_batch_are_those_of_rows_alone(llama: Pair) -> None:
    ours, _ = llama
    settings: dict[str, Any] = {"max_new_tokens": NEW, "num_beams": 3, "do_sample": False, "pad_token_id": PAD}
    batch = ours.generate(**questions("common preamble"), **settings)
    for answer, ids in zip(batch, QUESTIONS["common preamble"], strict=True):
        assert torch.equal(answer[-NEW:], ours.generate(torch.tensor([ids]), **settings)[0, -NEW:])


def test_an_output_object_has_the_same_sequences_and_scores(llama: Pair) -> None:
    ours, peft = llama
    batch = questions("common preamble")
    settings: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD}
    output = ours.generate(**batch, return_dict_in_generate=True, output_logits=True, **settings)
    assert torch.equal(output.sequences, ours.generate(**batch, **settings))
    assert len(output.logits) == NEW
    with torch.no_grad():
        for at, ids in enumerate(QUESTIONS["common preamble"]):
            right = peft(input_ids=torch.tensor([ids])).logits[0, -1]
            torch.testing.assert_close(output.logits[0][at], right, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_without_an_adapter_the_base_model_answers(tuned: Pair) -> None:
    ours, _ = tuned
    rows = torch.tensor(QUESTIONS["one row"])
    settings: dict[str, Any] = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": PAD}
    with ours.disable_adapter():
        base = ours.generate(input_ids=rows, **settings)
    assert torch.equal(base, ours.frozen.generate(rows, **settings))
    assert not torch.equal(base, ours.generate(rows, **settings)), "with it, another answer"


def test_no_token_is_outside_the_vocabulary(tuned: Pair) -> None:
    ours, _ = tuned
    sequences = ours.generate(**questions("no preamble"), max_new_tokens=NEW, do_sample=True, pad_token_id=PAD)
    assert 0 <= int(sequences.min()) <= int(sequences.max()) < VOCABULARY
