"""What the baselines are, worked out with nothing but the tokenizer and the files of the current folder."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def prompts() -> dict[str, Any]:
    """What results/metrics.json says of the baselines."""
    return json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))["prompts"]


def messages(split: str) -> dict[str, list[dict]]:
    """The conversation of each prepared row."""
    rows = pq.read_table(f"data/prepared/{split}.parquet").to_pylist()
    plain = {row["example_id"]: row["messages"] for row in rows}
    return {name: [{key: turn[key] for key in ("role", "content")} for turn in turns] for name, turns in plain.items()}


def examples(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The few-shot prompt: its rows as one conversation."""
    of_row = messages("train")
    turns = [turn for name in prompts()["few_shot"]["example_ids"] for turn in of_row[name]]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def in_system_turn(tokenizer: PreTrainedTokenizerBase, text: str, question: str) -> list[int]:
    """A question with `text` as system turn, up to where the answer begins."""
    turns = [{"role": "system", "content": text}, {"role": "user", "content": question}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tokenizer(rendered, add_special_tokens=False)["input_ids"]


def hard_question(tokenizer: PreTrainedTokenizerBase, question: str, ids: list[int]) -> list[int]:
    """The question, whose own tokens are `ids`, with the hard prompt in its place."""
    hard = prompts()["hard"]
    if hard["place"] == "system turn":
        return in_system_turn(tokenizer, hard["text"], question)
    return tokenizer(hard["text"], add_special_tokens=False)["input_ids"] + ids


@torch.no_grad()
def loss_of_answer(model: PreTrainedModel, before: list[int], answer: list[int]) -> float:
    """Summed nats of the answer's tokens, by transformers' own forward of one row."""
    ids = torch.tensor([before + answer])
    labels = torch.tensor([[-100] * len(before) + answer])
    return float(model(input_ids=ids, labels=labels).loss) * len(answer)


def question_and_answer(row: dict) -> tuple[list[int], list[int]]:
    """The tokens of a tokenized row of one question, before its labels and with them."""
    answer = [label for label in row["labels"] if label >= 0]
    return row["input_ids"][: len(row["input_ids"]) - len(answer)], answer


def tokenized(split: str) -> Dataset:
    """The tokenized rows."""
    return Dataset.from_file(f"data/tokenized/{split}.arrow")
