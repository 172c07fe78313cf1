"""Tuning methods: how each builds PEFT's configuration, and its default learning rates. One line in `METHODS` each."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from transformers import PretrainedConfig

from softprompt.config.train import Train
from softprompt.engine.model import SharedPrefixModel


@dataclass(frozen=True)
class Method:
    """A tuning method.

    Attributes:
        config: from the `train` section, the base model's folder and its configuration to PEFT's configuration.
        learning_rates: default peak learning rate by optimizer.
        of_prompt: whether these are in units of `prompt_size`.
    """

    config: Callable[[Train, Path, PretrainedConfig], PeftConfig]
    learning_rates: dict[str, float]
    of_prompt: bool = False


def prompt_tuning(train: Train, base: Path, model: PretrainedConfig) -> PeftConfig:
    """Prompt tuning (Lester et al. 2021, arXiv:2104.08691): the virtual tokens' embeddings are trained."""
    names = {"vocabulary": "SAMPLE_VOCAB", "text": "TEXT"}
    from_text = train.initialisation == "text"
    return PromptTuningConfig(
        prompt_tuning_init=names.get(train.initialisation, "RANDOM"),
        prompt_tuning_init_text=train.init_text if from_text else None,
        tokenizer_name_or_path=base.as_posix() if from_text else None,
        **_common(train, base),
    )


def p_tuning(train: Train, base: Path, model: PretrainedConfig) -> PeftConfig:
    """P-tuning (Liu et al. 2021, arXiv:2103.10385): the embeddings come out of a small trained encoder."""
    return PromptEncoderConfig(
        encoder_reparameterization_type=train.encoder.upper(),
        encoder_hidden_size=model.get_text_config().hidden_size,
        **_common(train, base),
    )


def prefix_tuning(train: Train, base: Path, model: PretrainedConfig) -> PeftConfig:
    """Prefix tuning (Li and Liang 2021, arXiv:2101.00190): keys and values of every layer are trained, directly."""
    return PrefixTuningConfig(init_weights="zero" if train.initialisation == "zero" else None, **_common(train, base))


def lora(train: Train, base: Path, model: PretrainedConfig) -> PeftConfig:
    """LoRA (Hu et al. 2021, arXiv:2106.09685): what is added to each linear layer but the last, of low rank."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base.as_posix(),
        r=train.lora_r,
        lora_alpha=train.lora_alpha,
        target_modules="all-linear",
    )


def _common(train: Train, base: Path) -> dict[str, Any]:
    return {
        "task_type": "CAUSAL_LM",
        "num_virtual_tokens": train.virtual_tokens,
        "base_model_name_or_path": base.as_posix(),
    }


# Of the block that `train.residual` trains in place of the prompt's own numbers; of 3e-2 and 3e-3 the better one.
RESIDUAL_RATE = 3e-3
METHODS = {
    # A step of a quarter of the prompt's own size, as it begins: 0.03 for SmolLM2, the best of 0.01, 0.03 and 0.09.
    # Gemma 3's embeddings are eight times as large: 0.03 loses 0.08 nats there (docs/engine.md has the search).
    "prompt_tuning": Method(prompt_tuning, {"adamw_torch": 0.25, "adafactor": 0.25}, of_prompt=True),
    # PEFT's comparison has 1e-4 in 5,000 steps. An encoder's layers take no more than what layers usually take; 1e-3
    # and 3e-3 were compared.
    "p_tuning": Method(p_tuning, {"adamw_torch": 1e-3, "adafactor": 1e-3}),
    # In units of each layer's root mean square, see softprompt/training/parametrisation.py; of 2e-2, 3e-2 and 1e-1 the
    # first had the lowest validation loss. Adafactor's was not looked for.
    "prefix_tuning": Method(prefix_tuning, {"adamw_torch": 2e-2, "adafactor": 2e-2}),
    # Of 1e-3 and 3e-3 the second had the lower validation loss.
    "lora": Method(lora, {"adamw_torch": 3e-3, "adafactor": 3e-3}),
}


def learning_rate(train: Train, model: SharedPrefixModel) -> float:
    """`train.learning_rate`, or the method's default for the optimizer and the prompt that `model` begins with."""
    if train.learning_rate is not None:
        return train.learning_rate
    method = METHODS[train.method]
    rate = method.learning_rates[train.optim]
    if train.residual and train.method == "prompt_tuning":
        return RESIDUAL_RATE
    return float(f"{rate * prompt_size(model):.1e}") if method.of_prompt else rate  # two digits: no machine's last bits


def prompt_size(model: SharedPrefixModel) -> float:
    """Root mean square of the numbers of the median virtual token; 1 where that is no number, or 0.

    Models' embeddings differ in it by an order of magnitude, and what a step of training changes is relative to it.
    """
    embedding: Any = model.get_submodule("prompt_encoder.default.embedding")  # its weight may be made of others
    size = float(embedding.weight.detach().cpu().square().mean(dim=1).sqrt().median())
    return size if math.isfinite(size) and size > 0 else 1.0
