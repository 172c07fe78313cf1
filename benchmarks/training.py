"""Rows per second and peak memory of training, through transformers' `Trainer` on both sides."""

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from torch.utils.data import Sampler
from transformers import (
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from benchmarks import memory
from benchmarks.models import Side, soft_prompt_model
from benchmarks.rows import pick
from benchmarks.work import useful_work
from softprompt.engine.batches import collate, row_lengths
from softprompt.runtime.paths import BASE_MODEL
from softprompt.training.order import LengthGroupedSampler
from softprompt.training.training import PromptTrainer


def train(
    *,
    side: Side,
    model: str,
    rows: str,
    virtual_tokens: int,
    batch_size: int,
    accumulation: int,
    count: int,
    length: int | None,
    seed: int,
    device: str = "cpu",
    dtype: str = "float32",
) -> dict[str, Any]:
    """Train on `count` rows once.

    Args:
        side: whose model, trainer and order.
        model: the base model's folder.
        rows: path of a tokenized split.
        virtual_tokens: length of the prompt.
        batch_size: rows of a micro-batch.
        accumulation: micro-batches of an optimizer step.
        count: how many rows; the same ones on every side and in every round.
        length: only rows of so many tokens; None: any.
        seed: of the order.
        device: cpu, or cuda.
        dtype: precision of the frozen weights.
    """
    chosen = pick(rows, count, length)
    tuned = soft_prompt_model(side, model, virtual_tokens, device, dtype)
    weights = memory.resident(device)
    memory.restart_peak(device)
    settings = {
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": accumulation,
        "seed": seed,
        "use_cpu": device == "cpu",
    }
    longest = row_lengths(chosen).argsort()[-batch_size * accumulation :]
    warm_up = seconds_of(make_trainer(side, tuned, Dataset.from_dict(chosen[longest.tolist()]), settings))
    seconds = seconds_of(make_trainer(side, tuned, chosen, settings))
    figures: dict[str, Any] = {
        "warm_up_seconds": warm_up,
        "seconds": seconds,
        "rows_per_second": count / seconds,
        "mib_above_weights": (memory.peak(device) - weights) / 2**20,
    }
    if side == "ours":
        order = list(LengthGroupedSampler(row_lengths(chosen), batch_size * accumulation, seed))
        batches = [chosen[order[start : start + batch_size]] for start in range(0, count, batch_size)]
        figures |= useful_work(tuned, batches)
    return figures


def seconds_of(trainer: Trainer) -> float:
    """Train, and say how long the loop took."""
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return clock.seconds


class Clock(TrainerCallback):
    """Times the loop: batches, forward, backward and optimizer steps; not the making of trainer and optimizer."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start."""
        _wait_for(args.device)
        self.seconds = -time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop."""
        _wait_for(args.device)
        self.seconds += time.perf_counter()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class LikeLengthTrainer(Trainer):
    """`Trainer` with our order of the rows, and else as it is."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(row_lengths(self.train_dataset), step, self.args.seed)


class PrefixInEachMicroBatch(PromptTrainer):
    """`PromptTrainer` that does not share one prefix among the micro-batches of a step."""

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """As `Trainer`'s."""
        return Trainer.get_batch_samples(self, epoch_iterator, num_batches, device)


def make_trainer(side: Side, model: PeftModel, rows: Dataset, settings: dict[str, Any]) -> Trainer:
    """The side's trainer for one epoch, without evaluation and checkpoints."""
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # nothing is saved
        num_train_epochs=1,
        learning_rate=1e-3,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    common: dict[str, Any] = {"model": model, "args": arguments, "train_dataset": rows}
    if side.startswith("peft"):
        kind = Trainer if side == "peft" else LikeLengthTrainer
        return kind(data_collator=padding_collator(), **common)
    trainer = (PrefixInEachMicroBatch if side == "ours, prefix each" else PromptTrainer)(
        data_collator=collate, **common
    )
    trainer.lengths = row_lengths(rows)
    trainer.model_accepts_loss_kwargs = True  # as `softprompt.training.training.make_trainer` has it
    trainer._loss_shifts_labels = False
    return trainer


def padding_collator() -> DataCollatorForSeq2Seq:
    """Dynamic padding, as transformers offers it for rows with labels."""
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return DataCollatorForSeq2Seq(tokenizer)
