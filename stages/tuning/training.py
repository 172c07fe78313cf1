"""The training loop: transformers' `Trainer`, with the validation loss and the checks that it lacks."""

import math
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from dvclive import Live
from peft import PeftModel
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from stages.params import Params
from stages.scoring.batches import collate, row_lengths
from stages.scoring.losses import row_losses
from stages.tuning.callbacks import LiveCallback, ProgressCallback
from stages.tuning.methods import learning_rate
from stages.tuning.order import LikeLengthSampler
from stages.workspace.errors import InputError

OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor"}


class PromptTrainer(Trainer):
    """`Trainer` with batches of like length, validation loss by token, and a stop at a loss that is no number."""

    model: PeftModel
    train_dataset: Dataset
    eval_dataset: Dataset

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LikeLengthSampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return LikeLengthSampler(row_lengths(rows), step, self.args.seed)

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Loss per label token over the whole validation split; `Trainer`'s own moves with the batch size."""
        losses, tokens = row_losses(self.model, list(self.eval_dataset), self.args.eval_batch_size, "validation")
        metrics = {f"{metric_key_prefix}_loss": float(losses.sum() / tokens.sum())}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _evaluate(self, trial: Any, ignore_keys_for_eval: list[str] | None, skip_scheduler: bool = False) -> Any:
        """Let the untrained prompt be a candidate too: `Trainer` measures it, but keeps only what comes later."""
        metrics = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        if self.state.global_step == 0:
            self._determine_best_metric(metrics=metrics, trial=trial)
            # `_save_checkpoint` would set this, but takes a best step of 0 for none.
            self.state.best_model_checkpoint = f"{self.args.output_dir}/{PREFIX_CHECKPOINT_DIR}-0"
            self._save_checkpoint(self.model, trial)
        return metrics

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """A step of `Trainer`.

        Raises:
            InputError: if its loss is not finite.
        """
        loss = super().training_step(*args, **kwargs)
        if not math.isfinite(loss.item()):
            raise InputError(
                f"train: the loss of step {self.state.global_step + 1} is {loss.item()}; lower train.learning_rate "
                f"(now {self.args.learning_rate:g}), or set train.clip_norm"
            )
        return loss


def make_trainer(
    model: PeftModel, rows: dict[str, Dataset], params: Params, checkpoints: Path, live: Live
) -> PromptTrainer:
    """A trainer that ends with the best prompt loaded into `model`; it keeps the best so far in `checkpoints`."""
    train = params.train
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        use_cpu=model.device.type == "cpu",
        seed=params.seed,
        optim=OPTIMIZERS[train.optimizer],
        learning_rate=learning_rate(train),
        weight_decay=0.0,
        lr_scheduler_type="constant_with_warmup" if train.schedule == "constant" else train.schedule,
        warmup_steps=train.warmup_ratio,
        num_train_epochs=train.epochs or 0,
        max_steps=train.max_steps or -1,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        gradient_accumulation_steps=train.accumulation_steps,
        max_grad_norm=train.clip_norm or 0.0,
        eval_strategy="steps",
        eval_steps=train.evaluate_every,
        eval_on_start=True,
        save_strategy="best",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=model.device.type == "cuda",
        disable_tqdm=True,
        report_to="none",
    )
    trainer = PromptTrainer(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        callbacks=[LiveCallback(live), ProgressCallback()],
    )
    trainer.remove_callback(PrinterCallback)  # it prints every log; ProgressCallback shows them
    if train.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(train.patience))
    return trainer
