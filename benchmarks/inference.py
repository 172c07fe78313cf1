"""Evaluation loss and greedy generation."""

import tempfile
import time
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from benchmarks.models import Side, soft_prompt_model
from benchmarks.rows import pick
from benchmarks.training import padding_collator
from softprompt.data.tokens import IGNORED
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.packing import row_lengths
from softprompt.engine.row_losses import row_losses


def evaluate(
    *, side: Side, model: str, rows: str, virtual_tokens: int, batch_size: int, count: int, parts: int, seed: int
) -> dict[str, Any]:
    """The loss of `count` rows: `Trainer.evaluate` against the evaluate stage's `row_losses`.

    Args:
        side: whose model; "peft" has the rows in the order of the data, the others sorted by length.
        model: the base model's folder.
        rows: path of a tokenized split.
        virtual_tokens: length of the prompt.
        batch_size: rows of a forward.
        count: how many rows all rounds have together.
        parts: in how many parts, one for each round; seconds are linear in the rows.
        seed: the round.
    """
    part = Dataset.from_dict(pick(rows, count)[seed % parts :: parts])
    by_length = row_lengths(part).argsort(kind="stable").tolist()
    timed = part if side == "peft" else Dataset.from_dict(part[by_length])
    warm = Dataset.from_dict(part[by_length[-batch_size:]])
    tuned = soft_prompt_model(side, model, virtual_tokens)
    if isinstance(tuned, SharedPrefixModel):
        row_losses(tuned, list(warm), batch_size)
        start = time.perf_counter()
        losses, tokens = row_losses(tuned, list(timed), batch_size)
        seconds, loss = time.perf_counter() - start, float(losses.sum() / tokens.sum())
    else:
        arguments = TrainingArguments(
            output_dir=tempfile.gettempdir(),
            use_cpu=True,
            per_device_eval_batch_size=batch_size,
            prediction_loss_only=True,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model=tuned, args=arguments, data_collator=padding_collator())
        trainer.evaluate(warm)
        start = time.perf_counter()
        loss = trainer.evaluate(timed)["eval_loss"]
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "rows_per_second": len(timed) / seconds, "loss": loss}


def generate(
    *, side: Side, model: str, rows: str, virtual_tokens: int, new_tokens: int, count: int, parts: int, seed: int
) -> dict[str, Any]:
    """Greedy answers to `count` questions, each of `new_tokens` tokens, whatever ends an answer.

    Args:
        side: "peft" answers one by one, the others all at once; PEFT's batched answers are wrong under left padding
            for some models, but take the time that they take.
        model: the base model's folder.
        rows: path of a tokenized split.
        virtual_tokens: length of the prompt.
        new_tokens: length of each answer.
        count: how many questions.
        parts: one by one, a round has only one of so many parts of the questions; seconds are linear in them.
        seed: the round.
    """
    chosen = pick(rows, count)
    questions = [
        torch.tensor(row["input_ids"][: sum(label == IGNORED for label in row["labels"])]) for row in list(chosen)
    ]
    tuned = soft_prompt_model(side, model, virtual_tokens).eval()
    batches = [[question] for question in questions[seed % parts :: parts]] if side == "peft" else [questions]
    settings = {"do_sample": False, "min_new_tokens": new_tokens, "max_new_tokens": new_tokens}
    tuned.generate(**_left_padded(batches[0][:2]), **{**settings, "min_new_tokens": 4, "max_new_tokens": 4})
    start = time.perf_counter()
    answers = [tuned.generate(**_left_padded(batch), **settings)[:, -new_tokens:] for batch in batches]
    seconds = time.perf_counter() - start
    given = torch.cat(answers).tolist()
    return {"seconds": seconds, "rows_per_second": len(given) / seconds, "answers": given}


def _left_padded(questions: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    def padded(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_side="left")

    return {"input_ids": padded(questions), "attention_mask": padded([torch.ones_like(row) for row in questions])}
