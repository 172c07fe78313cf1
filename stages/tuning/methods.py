"""Tuning methods: how each builds PEFT's configuration, and its default learning rates. One line in `METHODS` each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from peft import PeftConfig, PromptTuningConfig, TaskType

from stages.params.train import Train


@dataclass(frozen=True)
class Method:
    """A tuning method.

    Attributes:
        config: from the `train` section and the base model's folder to PEFT's configuration.
        learning_rates: default peak learning rate by optimizer.
    """

    config: Callable[[Train, Path], PeftConfig]
    learning_rates: dict[str, float]


def prompt_tuning(train: Train, base: Path) -> PeftConfig:
    """Prompt tuning (Lester et al. 2021, arXiv:2104.08691): only the virtual tokens' embeddings are trained."""
    names = {"random": "RANDOM", "vocabulary": "SAMPLE_VOCAB", "text": "TEXT"}
    from_text = train.init == "text"
    return PromptTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=train.num_virtual_tokens,
        prompt_tuning_init=names[train.init],
        prompt_tuning_init_text=train.init_text if from_text else None,
        tokenizer_name_or_path=base.as_posix() if from_text else None,
    )


METHODS = {
    # 0.3 with Adafactor: Lester et al., section 3. 0.01 with AdamW: between the 1e-3 to 3e-2 of PEFT's examples; on the
    # embedded default it trains faster than 3e-3 and as steadily.
    "prompt_tuning": Method(prompt_tuning, {"adamw": 1e-2, "adafactor": 0.3}),
}


def learning_rate(train: Train) -> float:
    """`train.learning_rate`, or the method's default for the optimizer."""
    return train.learning_rate or METHODS[train.method].learning_rates[train.optimizer]
