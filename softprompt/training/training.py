"""The training loop: `tune`, from the first step, or from a checkpoint on, to the best prompt."""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from dvclive import Live
from torch import nn
from torch.optim import AdamW, Optimizer
from transformers import Adafactor, get_scheduler

from softprompt import distributed
from softprompt.config import Params
from softprompt.config.train import Train
from softprompt.data.tokens import IGNORED, Row
from softprompt.engine.compiled import Graphs, can_be_captured
from softprompt.engine.finite import check_finite
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.training import saving
from softprompt.training.methods import learning_rate
from softprompt.training.order import Shuffled
from softprompt.training.parametrisation import merge
from softprompt.training.resume import tell_of_others
from softprompt.training.saving import Progress, Trained
from softprompt.training.show import Curves, interrupts
from softprompt.training.trackers import Trackers

# Compiling takes some 20 s on an H200, which about as many forwards save: 8 ms of 25 each, of 8 rows of 256 tokens, and
# 47 ms of 141, of 32 rows of 512.
COMPILE_FROM = 1000


def tune(
    model: SharedPrefixModel,
    rows: dict[str, Dataset],
    params: Params,
    checkpoints: Path,
    live: Live | None,
    *,
    trackers: Trackers | None = None,
) -> Progress:
    """Train the prompt of `model`; at the end it is the one of the lowest validation loss, the untrained one included.

    A step's loss is the mean over its label tokens, however it is cut into forwards and shared among processes. Where a
    killed run of the same work has left a checkpoint, training goes on from there and ends with the same bytes.

    Args:
        model: with a fresh prompt.
        rows: `train` and `validation`, of input_ids and labels.
        params: the pipeline's.
        checkpoints: folder of the newest checkpoint.
        live: records the curves; None in all processes but the first.
        trackers: record them too.

    Raises:
        InputError: if a loss is not finite.
        KeyboardInterrupt: naming the step from which the next run goes on.
    """
    train = params.train
    accelerator = Accelerator(cpu=model.device.type == "cpu", mixed_precision="no")
    train_rows = rows["train"].with_format("numpy", columns=["input_ids", "labels"])
    order = Shuffled(len(train_rows), train.batch_size * train.gradient_accumulation_steps, params.seed)
    last = train.max_steps or math.ceil(train.num_train_epochs * order.steps_an_epoch)
    rate = learning_rate(train, model)
    trained = trained_in(model, train, rate, last)
    optimizer, scheduler = trained.optimizer, trained.scheduler
    progress = _resumed(checkpoints, trained)
    curves = Curves(live, trackers or Trackers(), progress.history, last)
    smaller_steps = f"a lower train.learning_rate (now {rate:g}), or a train.max_grad_norm"

    def add(**measured: float) -> None:
        entry = {"step": progress.step, **measured}
        progress.history.append(entry)
        curves.add(entry)

    def validate() -> None:
        model.eval()
        losses, tokens = row_losses(model, rows["validation"], train.batch_size, "validation")
        loss = float(losses.sum() / tokens.sum())
        remedy = smaller_steps if progress.step else "another model, whose loss is a number before it is tuned"
        check_finite(model, loss, f"train: the validation loss of step {progress.step}", remedy)
        progress.measured(loss, trained.weights)
        add(**{"validation/loss": loss})

    with (
        saving.says_where_to_go_on(checkpoints),
        contextlib.closing(curves),
        at_full_speed(model, train.torch_compile, last * train.gradient_accumulation_steps),
        interrupts() as interrupt,
    ):
        if not progress.history:
            validate()
        patience = math.inf if train.early_stopping_patience is None else train.early_stopping_patience
        while progress.step < last and progress.without_gain < patience:
            start = time.perf_counter()
            step_rows = rows_at(train_rows, order.of_step(progress.step + 1))
            loss, norm = learn(model, optimizer, accelerator, step_rows, train)
            check_finite(model, loss, f"train: the loss of step {progress.step + 1}", smaller_steps)
            now = float(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
            progress.step += 1
            curves.learned(sum(len(row["input_ids"]) for row in step_rows), time.perf_counter() - start, norm)
            add(**{"train/loss": loss, "learning_rate": now})
            if progress.step % train.eval_steps == 0 or progress.step == last:
                validate()
            stop = interrupt.anywhere()
            if (stop or progress.step % params.runtime.save_steps == 0) and progress.step < last:
                if distributed.is_first():
                    saving.save(checkpoints, trained, progress)
                distributed.wait()
                if stop:
                    raise KeyboardInterrupt
    saving.put(progress.best_weights, trained.weights)
    merge(model)
    return progress


@contextlib.contextmanager
def at_full_speed(model: SharedPrefixModel, compiled: Literal["auto", True, False], forwards: int) -> Iterator[None]:
    """Within the block a GPU replays CUDA graphs; layers are compiled as `torch_compile` says, for so many forwards.

    A graph knows the gradient of the prompt alone, not of weights in the model's layers.
    """
    on_gpu = model.puts_prompt and can_be_captured(model.frozen)
    model.graphs = Graphs() if on_gpu else None
    model.compiled = on_gpu and forwards >= COMPILE_FROM if compiled == "auto" else compiled
    try:
        yield
    finally:
        model.graphs, model.compiled = None, False


def learn(
    model: SharedPrefixModel, optimizer: Optimizer, accelerator: Accelerator, rows: Sequence[Row], train: Train
) -> tuple[float, float]:
    """Take the gradient of a step's rows, of which each process has a share.

    Returns:
        The loss, in nats per label token, and the gradient's norm before it was clipped.
    """
    if not model.training:  # it walks through all modules of the frozen model
        model.train()
    optimizer.zero_grad()
    items = max(1, sum(int(np.count_nonzero(row["labels"] != IGNORED)) for row in rows))
    precise = torch.float32 if model.device.type == "mps" else torch.float64  # which Apple's GPUs lack
    total = torch.zeros((), dtype=precise, device=model.device)
    share = distributed.own_part(rows)
    for start in range(0, len(share), train.batch_size):
        losses, _ = model.token_losses(share[start : start + train.batch_size])
        loss = losses.sum() / items
        if loss.requires_grad:  # else no label has anything to predict it
            loss.backward()
        total += loss.detach()
    weights = optimizer.param_groups[0]["params"]
    if distributed.count() > 1:
        total = accelerator.reduce(total, "sum")
        for weight in weights:  # nothing but the gradient of what is trained is sent
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            weight.grad = accelerator.reduce(gradient, "sum")
    norm = accelerator.clip_grad_norm_(weights, train.max_grad_norm or math.inf)
    return tuple(torch.stack([total, norm.to(precise)]).tolist())  # a GPU is waited for here, once a step


def trained_in(model: SharedPrefixModel, train: Train, rate: float, last: int) -> Trained:
    """What is trained in `model` in `last` steps, with its optimizer and the scheduler of its peak learning `rate`."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = make_optimizer(list(weights.values()), train, rate)
    warmup = math.ceil(last * train.warmup_ratio)
    return Trained(weights, optimizer, get_scheduler(train.lr_scheduler_type, optimizer, warmup, last))


def make_optimizer(weights: list[nn.Parameter], train: Train, rate: float) -> Optimizer:
    """The optimizer of `weights` with a peak learning `rate`, without weight decay."""
    if train.optim == "adafactor":
        return Adafactor(weights, lr=rate, scale_parameter=False, relative_step=False)
    return AdamW(weights, lr=rate, weight_decay=0.0)


def rows_at(rows: Dataset, indices: list[int]) -> list[Row]:
    """Rows of a data set in numpy's format."""
    found = rows[indices]
    columns = found["input_ids"], found["labels"]
    return [{"input_ids": ids, "labels": labels} for ids, labels in zip(*columns, strict=True)]


def _resumed(checkpoints: Path, trained: Trained) -> Progress:
    """The progress of the newest checkpoint, whose states it puts into `trained`; or none."""
    if distributed.is_first():
        saving.clear_partial(checkpoints)
    found = distributed.share(saving.newest(checkpoints))
    if found is None:
        tell_of_others(checkpoints)
        return Progress()
    print(f"train: goes on from {found}", flush=True)
    return saving.load(found, trained)
