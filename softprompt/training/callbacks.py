"""What a run shows as it goes, and how Ctrl-C ends it."""

import signal
import sys
from types import FrameType
from typing import Any

from dvclive import Live
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from softprompt import distributed
from softprompt.runtime.progress import tqdm

NAMES = {"loss": "train/loss", "learning_rate": "learning_rate", "eval_loss": "validation/loss"}


class ReportCallback(TrainerCallback):
    """Records losses and the learning rate with dvclive, and shows the newest on one bar over the optimizer steps.

    In a log there is a line per measurement in place of the bar. dvclive's own callback also logs runtimes, which never
    repeat, and counts log events as steps.
    """

    def __init__(self, live: Live) -> None:
        self.live = live
        self.shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the bar; where a run is resumed, record again what it had recorded: DVC deleted the files."""
        for logs in state.log_history:
            self._record(int(logs["step"]), logs)
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="train", unit=" steps")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record and show `logs` at the optimizer step that they belong to."""
        logs = logs or {}
        self._record(state.global_step, logs)
        self.bar.set_postfix(self.shown)
        if self.bar.disable and "eval_loss" in logs:
            values = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            print(f"train: step {state.global_step} of {state.max_steps}: {values}", flush=True)

    def _record(self, step: int, logs: dict[str, float]) -> None:
        self.live.step = step
        for name, shown in NAMES.items():  # in this order: a checkpoint holds them in another
            if name in logs:
                self.live.log_metric(shown, logs[name])
        self.live.make_summary()
        self.shown |= {NAMES[name]: f"{logs[name]:.4f}" for name in ("loss", "eval_loss") if name in logs}

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.bar.close()


class InterruptCallback(TrainerCallback):
    """Ctrl-C ends training at the end of the step, with a checkpoint of it; a second one ends it at once."""

    interrupted = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Wait for Ctrl-C, where nobody asked to ignore it."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("\ntrain: stops at the end of this step; Ctrl-C again stops at once", file=sys.stderr, flush=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for a checkpoint, unless this was the last step anyway."""
        self.interrupted = any(distributed.gathered(self.interrupted))
        if self.interrupted and not control.should_training_stop:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop: the checkpoint stands.

        Raises:
            KeyboardInterrupt: where Ctrl-C was pressed.
        """
        if self.interrupted and not control.should_training_stop:
            raise KeyboardInterrupt

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave Ctrl-C as it was."""
        if signal.getsignal(signal.SIGINT) == self._remember:
            signal.signal(signal.SIGINT, signal.default_int_handler)
