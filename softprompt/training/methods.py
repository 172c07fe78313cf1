"""Tuning methods: how each builds PEFT's configuration, and its default learning rates. One line in `METHODS` each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from transformers import PretrainedConfig

from softprompt.config.train import Train


@dataclass(frozen=True)
class Method:
    """A tuning method.

    Attributes:
        config: from the `train` section, the base model's folder and its configuration to PEFT's configuration.
        learning_rates: default peak learning rate by optimizer.
    """

    config: Callable[[Train, Path, PretrainedConfig], PeftConfig]
    learning_rates: dict[str, float]


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


METHODS = {
    # 0.3 with Adafactor: Lester et al., section 3. AdamW: PEFT's examples have 1e-3 (its comparison of methods) to 3e-2
    # (its notebook); of 1e-2, 2e-2 and 3e-2 the last had the lowest validation loss, with shuffled batches.
    "prompt_tuning": Method(prompt_tuning, {"adamw_torch": 3e-2, "adafactor": 0.3}),
    # PEFT's comparison has 1e-4 in 5,000 steps. An encoder's layers take no more than what layers usually take; 1e-3
    # and 3e-3 were compared.
    "p_tuning": Method(p_tuning, {"adamw_torch": 1e-3, "adafactor": 1e-3}),
    # In units of each layer's root mean square, see softprompt/training/parametrisation.py; of 2e-2, 3e-2 and 1e-1 the
    # first had the lowest validation loss. Adafactor's was not looked for.
    "prefix_tuning": Method(prefix_tuning, {"adamw_torch": 2e-2, "adafactor": 2e-2}),
    # Of 1e-3 and 3e-3 the second had the lower validation loss.
    "lora": Method(lora, {"adamw_torch": 3e-3, "adafactor": 3e-3}),
}


def learning_rate(train: Train) -> float:
    """`train.learning_rate`, or the method's default for the optimizer."""
    return train.learning_rate or METHODS[train.method].learning_rates[train.optim]
