"""What a run shows as it goes, and how Ctrl-C ends it."""

import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from dvclive import Live

from softprompt import distributed
from softprompt.runtime.guard import on_interrupt
from softprompt.runtime.progress import tqdm
from softprompt.training.saving import Entry
from softprompt.training.trackers import Trackers

CURVES = ("train/loss", "learning_rate", "validation/loss")  # what is recorded, in this order


class Curves:
    """Records losses and the learning rate with dvclive and trackers; shows the newest on one bar over the steps.

    In a log there is a line per measurement in place of the bar. What never repeats (speed, memory) or is of no use
    afterwards (the gradient's norm) is shown and not recorded: DVC hashes the records.

    Args:
        live: None: nothing is recorded or shown.
        trackers: what records the same beside it.
        history: what a resumed run had recorded. DVC has deleted dvclive's files, and trackers have another run.
        last: the last step.
    """

    def __init__(self, live: Live | None, trackers: Trackers, history: list[Entry], last: int) -> None:
        self.live, self.trackers, self.last = live, trackers, last
        self.shown: dict[str, str] = {}
        self.tokens, self.seconds = 0, 0.0
        for entry in history:
            self._record(entry)
        step = int(history[-1]["step"]) if history else 0
        self.bar = tqdm(total=last, initial=step, desc="train", unit=" steps", disable=None if live else True)

    def learned(self, tokens: int, seconds: float, norm: float) -> None:
        """Take a step into account: the tokens of its rows, the seconds that it took, and its gradient's norm."""
        self.tokens, self.seconds = self.tokens + tokens, self.seconds + seconds
        self.shown |= {"gradient": f"{norm:.3g}", "tokens/s": f"{self.tokens / self.seconds:,.0f}"}

    def add(self, entry: Entry) -> None:
        """Record and show measurements at their step."""
        self._record(entry)
        if self.live is None:
            return
        step = int(entry["step"])
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix(self.shown)
        if self.bar.disable and "validation/loss" in entry:
            values = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            print(f"train: step {step} of {self.last}: {values}", flush=True)

    def _record(self, entry: Entry) -> None:
        if self.live is None:
            return
        self.live.step = int(entry["step"])
        for name in CURVES:
            if name in entry:
                self.live.log_metric(name, entry[name])
        self.live.make_summary()
        self.trackers.log(entry)
        self.shown |= {name: f"{entry[name]:.4f}" for name in ("train/loss", "validation/loss") if name in entry}

    def close(self) -> None:
        """Close the bar."""
        self.bar.close()


def peak_memory() -> str:
    """The most that this process has held so far, of the GPU's memory where it has one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return f"{torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB of the GPU"
    unit = 1 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:,.0f} MiB"


class Interrupt:
    """Whether Ctrl-C was pressed, in any of the processes."""

    pressed = False

    def anywhere(self) -> bool:
        """Asked once a step by all processes."""
        return any(distributed.gathered(self.pressed))


@contextmanager
def interrupts() -> Iterator[Interrupt]:
    """Within the block Ctrl-C is remembered, where nobody asked to ignore it; a second one ends the run at once."""
    interrupt = Interrupt()

    def remember(*_: object) -> None:
        interrupt.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\ntrain: stops at the end of this step; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    with on_interrupt(remember):
        yield interrupt
