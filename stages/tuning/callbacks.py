"""What a run shows as it goes: dvclive's files, and a progress bar or, in a log, a line per measurement."""

from typing import Any

from dvclive import Live
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from stages.workspace.progress import tqdm

NAMES = {"loss": "train/loss", "learning_rate": "learning_rate", "eval_loss": "validation/loss"}


class LiveCallback(TrainerCallback):
    """Records losses and the learning rate with dvclive.

    dvclive's own callback also logs runtimes, which never repeat, and counts log events as steps.
    """

    def __init__(self, live: Live) -> None:
        self.live = live

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record what is in `NAMES` at the optimizer step that it belongs to."""
        self.live.step = state.global_step
        for name, value in (logs or {}).items():
            if name in NAMES:
                self.live.log_metric(NAMES[name], value)
        self.live.make_summary()


class ProgressCallback(TrainerCallback):
    """One bar over the optimizer steps with the newest losses; where bars are off, a line at every measurement."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the bar."""
        self.bar = tqdm(total=state.max_steps, desc="train", unit=" steps")
        self.shown: dict[str, str] = {}

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
        """Show the newest losses."""
        logs = logs or {}
        self.shown |= {NAMES[name]: f"{logs[name]:.4f}" for name in ("loss", "eval_loss") if name in logs}
        self.bar.set_postfix(self.shown)
        if self.bar.disable and "eval_loss" in logs:
            values = ", ".join(f"{name} {value}" for name, value in self.shown.items())
            print(f"train: step {state.global_step} of {state.max_steps}: {values}", flush=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.bar.close()
