"""Whole checkpoints: all that training goes on from, bit for bit, and nothing half-written."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from softprompt.runtime.outputs import write_json

NAME = "checkpoint"
PARTIAL = "partial"  # where a checkpoint is written, before it is renamed into place
Entry = dict[str, float]
Weights = dict[str, nn.Parameter]


@dataclass
class Progress:
    """How far training has come.

    Attributes:
        step: optimizer steps that are done.
        best_step: after which the validation loss was lowest; 0 is the untrained prompt.
        best_loss: that loss, in nats per label token.
        best_weights: what is trained as it was then, by name.
        without_gain: measurements since.
        history: what the curves show, in order: `step` and measurements by name.
    """

    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    without_gain: int = 0
    history: list[Entry] = field(default_factory=list)

    def measured(self, loss: float, weights: Weights) -> None:
        """Take a measurement of the validation loss into account."""
        self.without_gain += 1
        if loss < self.best_loss or not self.best_weights:
            self.best_step, self.best_loss, self.without_gain = self.step, loss, 0
            self.best_weights = {name: weight.detach().clone() for name, weight in weights.items()}


@dataclass(frozen=True)
class Trained:
    """What a checkpoint holds the state of, besides `Progress`.

    PEFT's adapter format holds what an encoder puts out, not the encoder: training can't go on from it.

    Attributes:
        weights: what is trained, by name.
        optimizer: theirs.
        scheduler: of its learning rate.
    """

    weights: Weights
    optimizer: Optimizer
    scheduler: LRScheduler


def save(folder: Path, trained: Trained, progress: Progress) -> None:
    """Write a checkpoint beside, rename it, then remove older ones: a killed run finds a whole one in `folder`."""
    older, partial = list(folder.glob(f"{NAME}-*")), folder / PARTIAL / f"{NAME}-{progress.step}"
    partial.mkdir(parents=True)
    save_file({name: weight.detach() for name, weight in trained.weights.items()}, partial / "weights.safetensors")
    save_file(progress.best_weights, partial / "best.safetensors")
    states = {
        "optimizer": trained.optimizer.state_dict(),
        "scheduler": trained.scheduler.state_dict(),
        "random": torch.get_rng_state(),
    }
    torch.save(states, partial / "optimizer.pt")
    kept = {name: value for name, value in vars(progress).items() if name != "best_weights"}
    write_json(partial / "progress.json", kept)
    partial.rename(folder / partial.name)
    for checkpoint in older:
        shutil.rmtree(checkpoint)


def newest(folder: Path) -> Path | None:
    """The checkpoint in `folder` that has the most steps."""
    return max(folder.glob(f"{NAME}-*"), key=lambda found: int(found.name.rsplit("-", 1)[1]), default=None)


@contextmanager
def says_where_to_go_on(folder: Path) -> Iterator[None]:
    """Let Ctrl-C within the block name the step from which the next run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        found = newest(folder)
        step = found.name.rsplit("-", 1)[1] if found else "0"
        raise KeyboardInterrupt(f"the next run goes on from step {step}") from None


def clear_partial(folder: Path) -> None:
    """Remove what a killed run was writing."""
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def load(checkpoint: Path, trained: Trained) -> Progress:
    """Put the states of a checkpoint into what is trained; how far it had come."""
    put(load_file(checkpoint / "weights.safetensors"), trained.weights)
    states = torch.load(checkpoint / "optimizer.pt", weights_only=True, map_location="cpu")
    trained.optimizer.load_state_dict(states["optimizer"])
    trained.scheduler.load_state_dict(states["scheduler"])
    torch.set_rng_state(states["random"])
    progress = Progress(**json.loads((checkpoint / "progress.json").read_text(encoding="utf-8")))
    progress.best_weights = load_file(checkpoint / "best.safetensors")
    return progress


@torch.no_grad()
def put(values: dict[str, Tensor], weights: Weights) -> None:
    """Set weights to values of their names."""
    for name, weight in weights.items():
        weight.copy_(values[name])
