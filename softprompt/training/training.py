"""The training loop: transformers' `Trainer`, with what it lacks.

That is: validation by token, the best prompt (the untrained one included), checkpoints that hold the whole prompt
module and appear whole, and one prefix for all micro-batches of a step.
"""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from dvclive import Live
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from softprompt import distributed
from softprompt.config import Params
from softprompt.engine.batches import collate, row_lengths
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.runtime.errors import InputError
from softprompt.training.callbacks import InterruptCallback, ReportCallback
from softprompt.training.methods import learning_rate
from softprompt.training.order import FilledUp, LengthGroupedSampler, shares_of_a_step
from softprompt.training.resume import tell_of_others

PARTIAL = "partial"  # where a checkpoint is written, before it is renamed into place


class PromptTrainer(Trainer):
    """`Trainer` for a soft prompt.

    Batches have rows of similar length; the validation loss is per token; a loss that is no number stops the run; the
    prompt of the lowest validation loss, the untrained one included, is kept and stands in the model at the end.
    """

    model: SharedPrefixModel
    train_dataset: Dataset
    eval_dataset: Dataset
    best_prompt: dict[str, Tensor]

    checkpoints: Path
    lengths: np.ndarray

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LengthGroupedSampler:
        together = self.args.per_device_train_batch_size * distributed.count()
        step = together * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(self.lengths, step, self.args.seed, together if distributed.count() > 1 else 1)

    def padding_share(self) -> float:
        """Share of padding among the positions that the micro-batches of the first epoch have."""
        return self._get_train_sampler().padding_share(self.args.per_device_train_batch_size)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """The micro-batches of a step; where there are several, one prefix is run for all of them."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if len(batches) > 1:
            self.model.begin_step(batches)
        return batches, items

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """A step of `Trainer`.

        Raises:
            InputError: if its loss is not finite.
        """
        loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:
            self.model.end_step()
            self._average_gradients()
        if not math.isfinite(loss.item()):
            raise InputError(
                f"train: the loss of step {self.state.global_step + 1} is {loss.item()}; lower train.learning_rate "
                f"(now {self.args.learning_rate:g}), or set train.max_grad_norm"
            )
        return loss

    def _average_gradients(self) -> None:
        """Over the processes, once a step: nothing but the prompt's gradient is sent."""
        if distributed.count() > 1:
            for parameter in self.model.prompt_encoder.parameters():
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= distributed.count()  # `Trainer` has multiplied each loss by it

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Loss per label token over the whole validation split; `Trainer`'s own moves with the batch size."""
        losses, tokens = row_losses(self.model, self.eval_dataset, self.args.eval_batch_size, "validation")
        metrics = {f"{metric_key_prefix}_loss": float(losses.sum() / tokens.sum())}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _evaluate(self, trial: Any, ignore_keys_for_eval: list[str] | None, skip_scheduler: bool = False) -> Any:
        """Let the untrained prompt be a candidate too: `Trainer` measures it, but keeps only what comes later."""
        metrics = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        if self.state.global_step == 0:
            self._determine_best_metric(metrics=metrics, trial=trial)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        if best:
            self.best_prompt = {name: value.clone() for name, value in self.model.prompt_encoder.state_dict().items()}
        return best

    # PEFT's adapter format holds what an encoder puts out, not the encoder: training can't go on from it.

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.checkpoints)
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.model.prompt_encoder.state_dict(), folder / "prompt.safetensors")
        save_file(self.best_prompt, folder / "best.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        self.model.prompt_encoder.load_state_dict(load_file(folder / "prompt.safetensors"))
        self.best_prompt = load_file(folder / "best.safetensors", device=str(self.model.device))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint beside, then rename it, then remove older ones: a killed run finds a whole one."""
        if self.control.should_training_stop:  # nothing to go on with
            return
        super()._save_checkpoint(model, trial)
        distributed.wait()
        if not distributed.is_first():
            return
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        older = list(self.checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))
        (self.checkpoints / PARTIAL / name).rename(self.checkpoints / name)
        for folder in older:
            shutil.rmtree(folder)

    def _newest_checkpoint(self) -> Path | None:
        found = self.checkpoints.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
        return max(found, key=lambda folder: int(folder.name.rsplit("-", 1)[1]), default=None)

    def train_or_resume(self) -> tuple[int, float]:
        """Train, from the checkpoint on that a killed run of the same work left, if there is one.

        Returns:
            The step of the best prompt, which stands in the model then, and its validation loss in nats per label
            token.

        Raises:
            KeyboardInterrupt: naming the step from which the next run goes on.
        """
        if distributed.is_first():
            shutil.rmtree(self.checkpoints / PARTIAL, ignore_errors=True)  # what a killed run was writing
        checkpoint = distributed.share(self._newest_checkpoint())
        if checkpoint:
            print(f"train: goes on from {checkpoint}", flush=True)
        else:
            tell_of_others(self.checkpoints)
        self.args.eval_on_start = checkpoint is None
        try:
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except KeyboardInterrupt:
            newest = self._newest_checkpoint()
            step = newest.name.rsplit("-", 1)[1] if newest else "0"
            raise KeyboardInterrupt(f"the next run goes on from step {step}") from None
        finally:
            self.model.forget_step()
        self.model.prompt_encoder.load_state_dict(self.best_prompt)
        return int(self.state.best_global_step or 0), float(self.state.best_metric or 0)


def make_trainer(
    model: SharedPrefixModel, rows: dict[str, Dataset], params: Params, checkpoints: Path, live: Live | None
) -> PromptTrainer:
    """A trainer that keeps its newest checkpoint in the folder `checkpoints`.

    Of several processes each has an equal share of a step's rows; one without `live` records and shows nothing.

    Raises:
        InputError: if the rows of a step can't be shared evenly.
    """
    train = params.train
    rows_of_a_forward, forwards = shares_of_a_step(
        train.batch_size, train.gradient_accumulation_steps, distributed.count()
    )
    lengths = row_lengths(rows["train"])
    shortest = rows["train"][int(lengths.argmin())]
    arguments = TrainingArguments(
        output_dir=str(checkpoints / PARTIAL),
        use_cpu=model.device.type == "cpu",
        seed=params.seed,
        optim=train.optim,
        learning_rate=learning_rate(train),
        weight_decay=0.0,
        lr_scheduler_type=train.lr_scheduler_type,
        warmup_steps=train.warmup_ratio,
        num_train_epochs=train.num_train_epochs,
        max_steps=train.max_steps or -1,  # above 0 it wins
        per_device_train_batch_size=rows_of_a_forward,
        per_device_eval_batch_size=train.batch_size,
        gradient_accumulation_steps=forwards,
        max_grad_norm=train.max_grad_norm or 0.0,
        eval_strategy="steps",
        eval_steps=train.eval_steps,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=params.runtime.save_steps,
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model="loss",
        greater_is_better=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=model.device.type == "cuda",
        disable_tqdm=True,
        report_to="none",
    )
    # Else accelerate would wrap it in DistributedDataParallel, which sends every frozen weight once and awaits a
    # gradient from each backward, where the micro-batches of a step share one.
    model._is_accelerate_prepared = True  # type: ignore[assignment]
    trainer = PromptTrainer(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=FilledUp(rows["train"], shortest) if distributed.count() > 1 else rows["train"],
        eval_dataset=rows["validation"],
        callbacks=[*([] if live is None else [ReportCallback(live)]), InterruptCallback()],
    )
    trainer.checkpoints, trainer.lengths = checkpoints, lengths
    trainer.model_accepts_loss_kwargs = True  # `Trainer` asks the base model's forward, not ours
    trainer._loss_shifts_labels = False  # virtual tokens predict a row's first token too
    trainer.remove_callback(PrinterCallback)  # it prints every log; ReportCallback shows them
    if train.early_stopping_patience is not None:
        trainer.add_callback(EarlyStoppingCallback(train.early_stopping_patience))
    return trainer
