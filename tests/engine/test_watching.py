"""What serving adds to `generate`: a prompt that is run once for all calls, and answers that are watched and ended."""

from typing import Any

import pytest
import torch

from softprompt.engine.model import SharedPrefixModel
from tests.engine.architectures import ARCHITECTURES, VIRTUAL_TOKENS, VOCABULARY, longrope, make_pair, with_prompt
from tests.engine.batches import LONG, SHORT, answer_alone, padded, row

ROUGH = {"initializer_range": 0.4, "tie_word_embeddings": False}
QUESTIONS = [row(length, 0, SHORT)[0] for length in (9, 5, 14)]
NEW = 8


def settings(questions: list[list[int]], **others: Any) -> dict[str, Any]:
    batch = padded([(ids, ids) for ids in questions], "left")
    batch.pop("labels")
    return {**batch, "max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **others}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("questions", [QUESTIONS, [row(n, 0, LONG)[0] for n in (26, 31)]], ids=["short", "long"])
def test_a_kept_prompt_gives_the_same_answers(architecture: str, questions: list[list[int]]) -> None:
    rough = {name: value for name, value in ROUGH.items() if architecture not in ("gpt_oss", "opt")}
    ours, peft = make_pair(architecture, "prompt_tuning", **rough)
    ours.keep_prompt()
    for _ in range(2):  # the first call leaves nothing behind
        answers = ours.generate(**settings(questions))[:, max(map(len, questions)) :]
        assert answers.tolist() == [answer_alone(peft, ids, NEW) for ids in questions]


def test_a_kept_prompt_is_not_run_again_and_the_base_model_has_none() -> None:
    ours, _ = make_pair("llama", "prompt_tuning", **ROUGH)
    positions: list[int] = []
    layer = ours.frozen.get_decoder().layers[0]
    layer.register_forward_pre_hook(lambda _, inputs: positions.append(inputs[0].shape[1]))
    given = settings(QUESTIONS[:1])
    ours.generate(**given)
    run_each_time = sum(positions)
    ours.keep_prompt()
    positions.clear()
    ours.generate(**given)
    assert sum(positions) == run_each_time - VIRTUAL_TOKENS == len(QUESTIONS[0]) + NEW - 1
    with ours.disable_adapter():
        base = ours.generate(**given)
    alone = ours.frozen.generate(**given)
    assert base.tolist() == alone.tolist()


def test_a_kept_prompt_does_not_serve_beyond_steady_rotary_embeddings() -> None:
    """There keys depend on the length of the whole: the prompt runs anew."""
    torch.manual_seed(0)
    ours = with_prompt(SharedPrefixModel, longrope(limit=20).double(), "prompt_tuning")
    given = settings([row(18, 0)[0]])
    wanted = ours.generate(**given)
    ours.keep_prompt()
    assert ours.generate(**given).tolist() == wanted.tolist()


@pytest.mark.parametrize("architecture", ["llama", "mistral"])  # mistral: rows of equal length go together
def test_each_answer_is_watched_and_ended_alone(architecture: str) -> None:
    ours, peft = make_pair(architecture, "prompt_tuning", **ROUGH)
    questions = [*QUESTIONS, row(40, 0)[0], QUESTIONS[1]]
    seen: dict[int, list[int]] = {number: [] for number in range(len(questions))}

    def watch(numbers: Any, tokens: Any) -> list[bool]:
        for number, token in zip(numbers, tokens, strict=True):
            seen[number].append(token)
        return [number == 1 and len(seen[1]) >= 3 for number in numbers]

    right = [answer_alone(peft, ids, NEW) for ids in questions]
    end = min(set(range(VOCABULARY)) - {token for answer in right for token in answer})
    answers = ours.generate(**settings(questions, eos_token_id=end, watch=watch))[:, 40:]
    right[1] = right[1][:3] + [0] * (NEW - 3)
    assert answers.tolist() == right
    for number, tokens in seen.items():
        assert tokens == right[number][: len(tokens)]
        assert len(tokens) >= (3 if number == 1 else NEW)


def test_rows_of_unequal_length_share_a_batch_under_a_watch() -> None:
    ours, _ = make_pair("llama", "prompt_tuning", **ROUGH)
    together: list[int] = []

    def watch(numbers: Any, tokens: Any) -> list[bool]:
        together.append(len(numbers))
        return [True] * len(numbers)

    ours.generate(**settings(QUESTIONS, watch=watch))
    assert together == [len(QUESTIONS)]


def test_the_answers_of_one_question_are_watched_by_their_numbers() -> None:
    ours, _ = make_pair("llama", "prompt_tuning", **ROUGH)
    seen: set[int] = set()

    def watch(numbers: Any, tokens: Any) -> list[bool]:
        seen.update(numbers)
        return [False] * len(numbers)

    sampled = {"do_sample": True, "num_return_sequences": 2, "watch": watch}
    ours.generate(**settings(QUESTIONS, **sampled))
    assert seen == set(range(2 * len(QUESTIONS)))


def test_beams_cannot_be_watched() -> None:
    ours, _ = make_pair("llama", "prompt_tuning")
    with pytest.raises(ValueError, match="watch: beams have no token that is final"):
        ours.generate(**settings(QUESTIONS, num_beams=2, watch=lambda numbers, tokens: [False]))
