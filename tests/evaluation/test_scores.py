"""Scores of answers: against sacrebleu's own, against counts by hand, and in Chinese."""

import numpy as np
import pandas as pd
import pytest
from sacrebleu.metrics import BLEU, CHRF

from softprompt.evaluation.answers import Answer
from softprompt.evaluation.sample import sampled_rows
from softprompt.evaluation.scores import bleu_tokenizer, repetition, rouge_l, row_scores, sample_scores, words

REFERENCES = ["The cat sat on the mat.", "I am a robot.", "Paris is the capital of France.", "It is blue."]
ANSWERS = {
    "base": ["The dog sat on a mat, I think.", "", "Paris.", "It is blue."],
    "hard": ["A cat sat on the mat.", "I am not a robot.", "The capital is Paris.", "Blue."],
    "tuned": ["The cat sat on the mat.", "i am a  ROBOT.", "Paris is the capital.", "It is red."],
}
TOKENS = {
    variant: [Answer(list(range(len(text.split()))), truncated=False) for text in texts]
    for variant, texts in ANSWERS.items()
}


def scored(references: list[str] = REFERENCES, answers: dict[str, list[str]] = ANSWERS) -> dict[str, pd.DataFrame]:
    return {variant: row_scores(TOKENS[variant], texts, references) for variant, texts in answers.items()}


def of_sample() -> dict[str, dict]:
    result = sample_scores(scored(), REFERENCES, np.array([6, 4, 6, 3]), np.arange(4))
    return {score["score"]: score for score in result["scores"]}


def test_the_samples_chrf_and_bleu_are_sacrebleus_corpus_scores() -> None:
    found = of_sample()
    for variant, texts in ANSWERS.items():
        assert found["chrF"][variant]["mean"] == pytest.approx(CHRF().corpus_score(texts, [REFERENCES]).score)
        assert found["BLEU"][variant]["mean"] == pytest.approx(BLEU().corpus_score(texts, [REFERENCES]).score)


def test_every_score_has_an_interval_around_it_and_differences_to_the_baselines() -> None:
    for score in of_sample().values():
        for name in ("base", "hard", "tuned", "tuned_minus_base", "tuned_minus_hard"):
            assert score[name]["low"] <= score[name]["mean"] <= score[name]["high"], (score["score"], name)
        assert score["tuned_minus_hard"]["mean"] == pytest.approx(score["tuned"]["mean"] - score["hard"]["mean"])


def test_shares_and_lengths() -> None:
    found = of_sample()
    assert [found["exact match"][variant]["mean"] for variant in ANSWERS] == [0.25, 0, 0.5]
    assert [found["empty"][variant]["mean"] for variant in ANSWERS] == [0.25, 0, 0]
    assert found["length ratio"]["tuned"]["mean"] == (6 + 4 + 4 + 3) / 19
    assert found["truncated"]["base"]["mean"] == 0


def test_an_exact_answer_has_every_full_score() -> None:
    first = scored()["tuned"].iloc[0]
    assert first["exact_match"]
    assert [first["chrf"], first["bleu"], first["rouge_l"]] == pytest.approx([100, 100, 100])
    empty = scored()["base"].iloc[1]
    assert empty["empty"]
    assert [empty["chrf"], empty["bleu"], empty["rouge_l"]] == [0, 0, 0]


def test_rouge_l_is_of_words_and_of_chinese_characters() -> None:
    assert words("The cat's 3 mats, d'accord!") == ["the", "cat", "s", "3", "mats", "d", "accord"]
    assert words("我爱 Python 编程。") == ["我", "爱", "python", "编", "程"]
    # "the cat the mat" of 6 words: precision 4/4, recall 4/6.
    assert rouge_l("the cat the mat", "the cat sat on the mat") == pytest.approx(100 * 2 * 4 / (4 + 6))
    assert rouge_l("北京是首都", "首都是北京") == pytest.approx(100 * 2 * 2 / 10)
    assert rouge_l("...", "!!!") == 0


def test_chinese_references_take_the_chinese_tokenizer() -> None:
    assert bleu_tokenizer(["北京是中国的首都。", "OK"]) == "zh"
    assert bleu_tokenizer(["Beijing (北京) is the capital."]) == "13a"
    answers = {variant: ["北京是中国的首都。"] * 4 for variant in ANSWERS}
    references = ["北京是中国的首都。"] * 3 + ["上海不是中国的首都。"]
    table = scored(references, answers)["tuned"]
    assert table["bleu"][0] == pytest.approx(100)
    assert 0 < table["bleu"][3] < 100, "as one word it would have no 4-gram in common"


@pytest.mark.parametrize(
    ("ids", "expected"), [([1, 2, 3], 0), ([1, 2, 3, 4, 5], 0), ([7] * 8, 0.8), ([1, 2, 3, 4] * 2, 0.2), ([], 0)]
)
def test_repetition(ids: list[int], expected: float) -> None:
    assert repetition(ids) == pytest.approx(expected)


def test_a_sample_is_of_a_seed_and_does_not_depend_on_the_order() -> None:
    ids = [f"{n:016x}" for n in range(50)]
    sample = sampled_rows(ids, 10, 0)
    assert sample == sorted(sample)
    assert len(set(sample)) == 10
    backwards = sampled_rows(ids[::-1], 10, 0)
    assert {ids[::-1][place] for place in backwards} == {ids[place] for place in sample}
    assert sampled_rows(ids, 10, 1) != sample
    assert sampled_rows(ids, None, 0) == list(range(50))
    kept = {(ids + ["new"] * 5)[place] for place in sampled_rows([*ids, *(f"new{n}" for n in range(5))], 10, 0)}
    assert len(kept & {ids[place] for place in sample}) >= 5, "new rows move few"


def test_a_sample_is_at_most_the_split() -> None:
    assert sampled_rows([str(n) for n in range(50)], 51, 0) == list(range(50))
