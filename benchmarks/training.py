"""Rows per second and peak memory of training: PEFT under transformers' `Trainer`, and the pipeline's loop."""

import math
import tempfile
import time
from functools import partial
from typing import Any

from accelerate import Accelerator
from datasets import Dataset
from peft import PeftModel
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
from benchmarks.models import Side, benchmark_params, soft_prompt_model
from benchmarks.rows import pick
from benchmarks.work import useful_work
from softprompt.config.train import Train
from softprompt.engine.linear import cpu_matmul_of
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.packing import row_lengths
from softprompt.runtime.paths import BASE_MODEL
from softprompt.training.training import at_full_speed, learn, make_optimizer, rows_at

LEARNING_RATE = 1e-3


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
) -> dict[str, Any]:
    """Train on `count` rows once.

    Args:
        side: whose model and loop.
        model: the base model's folder.
        rows: path of a tokenized split.
        virtual_tokens: length of the prompt.
        batch_size: rows of a micro-batch.
        accumulation: micro-batches of an optimizer step.
        count: how many rows; the same ones on every side and in every round.
        length: only rows of so many tokens; None: any.
        seed: of the order, the same one on every side.
    """
    chosen = pick(rows, count, length).shuffle(seed=seed)
    tuned = soft_prompt_model(side, model, virtual_tokens)
    weights = memory.resident()
    memory.restart_peak()
    train = Train.model_validate(
        benchmark_params().train.model_dump()
        | {"batch_size": batch_size, "gradient_accumulation_steps": accumulation, "learning_rate": LEARNING_RATE}
        | {"method": "prompt_tuning", "optim": "adamw_torch", "max_grad_norm": 1.0}
    )
    step, order = batch_size * accumulation, row_lengths(chosen).argsort(kind="stable")
    # The longest rows for the memory, and others, since what is compiled for one length is compiled anew for a second.
    warm = chosen.select([*order[-step:], *order[:step]])
    compiled = side in ("peft, compiled", "ours, fastest")
    run: Any = partial(_by_learn if isinstance(tuned, SharedPrefixModel) else _by_trainer, compiled)
    before = {name: value.clone() for name, value in tuned.prompt_encoder.state_dict().items()}
    warm_up, _ = run(tuned, warm, train)
    tuned.prompt_encoder.load_state_dict(before)
    seconds, losses = run(tuned, chosen, train)
    figures: dict[str, Any] = {
        "warm_up_seconds": warm_up,
        "seconds": seconds,
        "rows_per_second": count / seconds,
        "mib_above_weights": (memory.peak() - weights) / 2**20,
        "losses": losses,
    }
    if side.startswith("ours"):
        batches = [chosen[start : start + batch_size] for start in range(0, count, batch_size)]
        figures |= useful_work(tuned, batches) | {"cpu_matmul": cpu_matmul_of(tuned), "torch_compile": compiled}
    return figures


def _by_learn(compiled: bool, model: SharedPrefixModel, rows: Dataset, train: Train) -> tuple[float, list[float]]:
    """Seconds of the loop and the loss of each step, by `softprompt.training.training.learn`."""
    accelerator = Accelerator(cpu=True)
    optimizer = make_optimizer(list(model.prompt_encoder.parameters()), train, LEARNING_RATE)
    rows, losses, step = rows.with_format("numpy"), [], train.batch_size * train.gradient_accumulation_steps
    with at_full_speed(model, compiled, forwards=0):
        start = time.perf_counter()
        for begin in range(0, len(rows), step):
            chosen = rows_at(rows, list(range(begin, min(begin + step, len(rows)))))
            losses.append(learn(model, optimizer, accelerator, chosen, train)[0])
            optimizer.step()
        return time.perf_counter() - start, losses


def _by_trainer(compiled: bool, model: PeftModel, rows: Dataset, train: Train) -> tuple[float, list[float]]:
    """The same by `Trainer`, with dynamic padding."""
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # nothing is saved
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=train.max_grad_norm or 0.0,
        per_device_train_batch_size=train.batch_size,
        gradient_accumulation_steps=train.gradient_accumulation_steps,
        train_sampling_strategy="sequential",
        use_cpu=True,
        torch_compile=compiled,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    clock = Clock()
    trainer = Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=padding_collator(), callbacks=[clock]
    )
    trainer.train()
    return clock.seconds, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def check_losses(sides: list[dict[str, Any]]) -> None:
    """See that all sides did the same work: the loss of each step agrees.

    Raises:
        AssertionError: where it doesn't.
    """
    for figures in sides[1:]:
        pairs = zip(sides[0]["losses"], figures["losses"], strict=True)
        if not all(math.isclose(one, other, rel_tol=2e-3) for one, other in pairs):
            raise AssertionError(f"the sides' losses differ: {sides[0]['losses']}, {figures['losses']}")


class Clock(TrainerCallback):
    """Times the loop: batches, forward, backward and optimizer steps; not the making of trainer and optimizer."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start."""
        self.seconds = -time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop."""
        self.seconds += time.perf_counter()


def padding_collator() -> DataCollatorForSeq2Seq:
    """Dynamic padding, as transformers offers it for rows with labels."""
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return DataCollatorForSeq2Seq(tokenizer)
