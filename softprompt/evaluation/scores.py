"""Scores of generated answers against references: each row's, and the sample's with intervals.

sacrebleu owns chrF (Popović 2015) and BLEU (Papineni et al. 2002), with its Chinese tokenizer where the references are
Chinese. ROUGE-L (Lin 2004) is the F1 of the longest common subsequence, of words, and of characters where a script has
no spaces. Every score of the sample is computed from sums over rows, so that it can be resampled.
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import regex
from rapidfuzz.distance import LCSseq
from sacrebleu.metrics import BLEU, CHRF

from softprompt.data.rows import question_key
from softprompt.evaluation.answers import Answer
from softprompt.evaluation.bootstrap import resampled_sums, score_intervals

# Han, kana, Thai, Lao, Khmer and Burmese write without spaces: a word there is a character.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = regex.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
REPEATED = 4  # tokens of the n-grams whose repetition is counted, as in Welleck et al. 2019 (arXiv:1908.04319)


@dataclass(frozen=True)
class Score:
    """A score of a sample of answers.

    Attributes:
        name: as it is shown.
        better: "higher", "lower" or "near 1".
        statistics: from a variant's scored rows to what each adds to the sums, (rows, columns).
        of_sums: from the summed columns to the score.
    """

    name: str
    better: str
    statistics: Callable[[pd.DataFrame], np.ndarray]
    of_sums: Callable[[np.ndarray], float]


def words(text: str) -> list[str]:
    """Words in lower case without punctuation; of scripts without spaces, characters."""
    return WORD.findall(unicodedata.normalize("NFC", text).casefold())


def rouge_l(answer: str, reference: str) -> float:
    """F1 of the longest common subsequence of words, 0 to 100."""
    first, second = words(answer), words(reference)
    total = len(first) + len(second)
    return 200 * LCSseq.similarity(first, second) / total if total else 0.0


def repetition(ids: Sequence[int]) -> float:
    """Share of the answer's 4-grams of tokens that stood in it before, 0 to 1; 0 for an answer without any."""
    grams = [tuple(ids[place : place + REPEATED]) for place in range(len(ids) - REPEATED + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def bleu_tokenizer(references: Sequence[str]) -> str:
    """sacrebleu's name of the tokenizer that suits the references: "zh" where most letters are Chinese, else "13a"."""
    text = "".join(references)
    letters, chinese = len(regex.findall(r"\p{L}", text)), len(regex.findall(r"\p{Han}", text))
    return "zh" if 2 * chinese > letters else "13a"


def row_scores(answers: Sequence[Answer], texts: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """Every score of each answer, in the order of `answers`.

    Args:
        answers: as generated.
        texts: the answers as text.
        references: what the data set answers.
    """
    chrf, bleu = CHRF(), BLEU(tokenize=bleu_tokenizer(references), effective_order=True)
    pairs = list(zip(texts, references, strict=True))
    return pd.DataFrame(
        {
            "answer": texts,
            "answer_tokens": [len(answer.ids) for answer in answers],
            "truncated": [answer.truncated for answer in answers],
            "empty": [not text.strip() for text in texts],
            # As questions are compared: Unicode form, case and white space don't count.
            "exact_match": [question_key(text) == question_key(reference) for text, reference in pairs],
            "chrf": [chrf.sentence_score(text, [reference]).score for text, reference in pairs],
            "bleu": [bleu.sentence_score(text, [reference]).score for text, reference in pairs],
            "rouge_l": [rouge_l(text, reference) for text, reference in pairs],
            "repetition": [repetition(answer.ids) for answer in answers],
        }
    )


def sample_scores(
    scored: dict[str, pd.DataFrame], references: Sequence[str], reference_tokens: np.ndarray, questions: np.ndarray
) -> dict[str, Any]:
    """Every score of the sample for each variant, and of the tuned prompt against the others, with 95% intervals.

    Args:
        scored: variant -> `row_scores` of the same rows.
        references: what the data set answers.
        reference_tokens: their lengths, (rows,).
        questions: the question that each row belongs to, (rows,).
    """
    tokenizer = bleu_tokenizer(references)
    scores = _scores(references, reference_tokens, tokenizer)
    statistics = {score.name: {variant: score.statistics(rows) for variant, rows in scored.items()} for score in scores}
    blocks = [columns for of_variant in statistics.values() for columns in of_variant.values()]
    ends = np.cumsum([block.shape[1] for block in blocks])[:-1]
    # All at once: every score of every variant is of the same resamples.
    sums = iter(np.split(resampled_sums(np.concatenate(blocks, axis=1), questions), ends, axis=1))
    rows = []
    for score in scores:
        resampled = {variant: next(sums) for variant in scored}
        intervals = score_intervals(statistics[score.name], score.of_sums, resampled)
        rows.append({"score": score.name, "better": score.better, **intervals})
    counts = {"rows": len(references), "questions": len(np.unique(questions))}
    return {**counts, "bleu_tokenizer": tokenizer, "scores": rows}


def _scores(references: Sequence[str], reference_tokens: np.ndarray, tokenizer: str) -> list[Score]:
    def of_corpus(name: str, metric: CHRF | BLEU) -> Score:
        # The hooks that sacrebleu's own corpus_score and bootstrap are made of; that one resamples rows, not questions.
        def statistics(rows: pd.DataFrame) -> np.ndarray:
            return np.array(metric._extract_corpus_statistics(rows["answer"].tolist(), [references]), dtype=float)

        return Score(name, "higher", statistics, lambda sums: metric._compute_score_from_stats(list(sums)).score)

    def mean(name: str, better: str, column: str) -> Score:
        return Score(name, better, lambda rows: _with(rows[column], np.ones(len(rows))), _ratio)

    return [
        of_corpus("chrF", CHRF()),
        of_corpus("BLEU", BLEU(tokenize=tokenizer)),
        mean("ROUGE-L", "higher", "rouge_l"),
        mean("exact match", "higher", "exact_match"),
        Score("length ratio", "near 1", lambda rows: _with(rows["answer_tokens"], reference_tokens), _ratio),
        mean("truncated", "lower", "truncated"),
        mean("empty", "lower", "empty"),
        mean("repetition", "lower", "repetition"),
    ]


def _with(values: pd.Series, weights: np.ndarray) -> np.ndarray:
    return np.stack([values.to_numpy(dtype=float), weights], axis=1)


def _ratio(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1])
