"""Every test row with its losses, answers and scores: what results/predictions.parquet holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from datasets import Dataset

from softprompt.data.rows.parts import PART
from softprompt.data.templates import Template
from softprompt.evaluation.answers import Answer
from softprompt.evaluation.names import baselines, measured
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


def split_rows(tokens: Dataset, prepared: Path, template: Template) -> pd.DataFrame:
    """What the rows of a tokenized split say, in its order; read a part at a time.

    Args:
        tokens: of `softprompt.data.tokens.TOKENIZED_SCHEMA`.
        prepared: the parquet file that it was made from.
        template: what made it.

    Returns:
        `example_id`, `question_id`, `source`; `reference`, the first answer that has a label; `question`, the user's
        turn before it; `question_tokens`, the tokens before it.
    """
    rows = tokens.select_columns(["example_id", "question_id"]).to_pandas()
    kept = set(rows["example_id"])
    texts: dict[str, list[str]] = {"source": [], "question": [], "reference": []}
    with pq.ParquetFile(prepared) as file:
        for part in file.iter_batches(PART, columns=["example_id", "messages", "source"]):
            for row in part.to_pylist():
                if row["example_id"] in kept:  # tokenizing drops some, and keeps the order
                    turns, first = row["messages"], template.first_answer(row["messages"])
                    asked = (turn["content"] for turn in turns[first::-1] if turn["role"] == "user")
                    texts["source"].append(row["source"])
                    texts["question"].append(next(asked, ""))
                    texts["reference"].append(turns[first]["content"])
    labelled = (labels for part in tokens.select_columns("labels").iter(PART) for labels in part["labels"])
    places = [next(place for place, label in enumerate(labels) if label >= 0) for labels in labelled]
    return rows.assign(**texts, question_tokens=places)


def score_answers(
    answers: dict[str, list[Answer]], rows: pd.DataFrame, template: Template
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Scores of each answer of each variant, indexed as `rows`, and of the sample; see `softprompt.evaluation.scores`.

    Args:
        answers: variant -> its answers to `rows`.
        rows: `question_id` and `reference` of the rows that were answered.
        template: what the questions are put in.
    """
    references, tokenizer = rows["reference"].tolist(), template.tokenizer
    lengths = np.array([len(ids) for ids in tokenizer(references, add_special_tokens=False)["input_ids"]])
    scored = {}
    for variant, given in answers.items():
        decoded = [str(tokenizer.decode(answer.ids, skip_special_tokens=True)) for answer in given]
        texts = [template.content_of(text) for text in decoded]
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
    for variant in measured(losses):
        table[f"{variant}_loss"] = losses[variant] / losses["tokens"]
    for variant in baselines(losses):
        table[f"gain_over_{variant}"] = table[f"{variant}_loss"] - table["tuned_loss"]
    for variant, scores in scored.items():
        for name in map(str, scores):
            table[f"{variant}_{name}"] = scores[name].astype(TYPES.get(name, "float64")).reindex(rows.index)
    return table
