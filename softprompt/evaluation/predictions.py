"""Every test row with its losses, answers and scores: what results/predictions.parquet holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from softprompt.evaluation.answers import Answer
from softprompt.evaluation.metrics import VARIANTS
from softprompt.evaluation.scores import row_scores, sample_scores

KEPT = ["example_id", "question_id", "source", "question", "reference", "question_tokens"]
# Rows that were not answered have no score: types that know a missing value.
TYPES = {
    "answer": "string",
    "answer_tokens": "Int64",
    "truncated": "boolean",
    "empty": "boolean",
    "exact_match": "boolean",
}


def split_rows(tokenized: Path, prepared: Path) -> pd.DataFrame:
    """The rows of a tokenized split with their texts, in its order.

    Args:
        tokenized: an Arrow stream of `softprompt.data.tokens.TOKENIZED_SCHEMA`.
        prepared: the parquet file that it was made from.

    Returns:
        `input_ids`, `labels`, `example_id`, `question_id`; `source`; `question`, the first user turn; `reference`, its
        answer; `question_tokens`, the tokens before that.
    """
    tokens = Dataset.from_file(str(tokenized))
    rows = pd.DataFrame({name: tokens[name][:] for name in tokens.column_names})
    texts = pd.read_parquet(prepared, columns=["example_id", "messages", "source"]).set_index("example_id")
    texts = texts.loc[rows["example_id"]].reset_index(drop=True)
    rows["source"] = texts["source"]
    for name, role in (("question", "user"), ("reference", "assistant")):
        rows[name] = [next(turn["content"] for turn in turns if turn["role"] == role) for turns in texts["messages"]]
    rows["question_tokens"] = [next(place for place, label in enumerate(row) if label >= 0) for row in rows["labels"]]
    return rows


def score_answers(
    answers: dict[str, list[Answer]], rows: pd.DataFrame, tokenizer: PreTrainedTokenizerBase
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Scores of each answer of each variant, indexed as `rows`, and of the sample; see `softprompt.evaluation.scores`.

    Args:
        answers: variant -> its answers to `rows`.
        rows: `question_id` and `reference` of the rows that were answered.
        tokenizer: the model's.
    """
    references = rows["reference"].tolist()
    lengths = np.array([len(ids) for ids in tokenizer(references, add_special_tokens=False)["input_ids"]])
    scored = {}
    for variant, given in answers.items():
        texts = [str(tokenizer.decode(answer.ids, skip_special_tokens=True)) for answer in given]
        scored[variant] = row_scores(given, texts, references).set_index(rows.index)
    return scored, sample_scores(scored, references, lengths, rows["question_id"].to_numpy())


def predictions(rows: pd.DataFrame, losses: pd.DataFrame, scored: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row per test row: texts, each variant's loss per label token, the tuned prompt's gains, answers and scores.

    Args:
        rows: `split_rows`.
        losses: `tokens`, and each variant's summed loss.
        scored: variant -> scores of the rows that were answered, by their index in `rows`.
    """
    table = rows[KEPT].assign(tokens=losses["tokens"])
    for variant in VARIANTS:
        table[f"{variant}_loss"] = losses[variant] / losses["tokens"]
    for variant in VARIANTS[:-1]:
        table[f"gain_over_{variant}"] = table[f"{variant}_loss"] - table["tuned_loss"]
    for variant, scores in scored.items():
        for name in map(str, scores):
            table[f"{variant}_{name}"] = scores[name].astype(TYPES.get(name, "float64")).reindex(rows.index)
    return table
