"""The variants of the model that are compared: the baselines, none of them trained, and the tuned one."""

from collections.abc import Container

NAMES = {"base": "base model", "hard": "hard prompt", "few_shot": "few-shot prompt", "tuned": "tuned prompt"}


def measured(names: Container[str]) -> list[str]:
    """The variants among `names`, in the order in which they are shown."""
    return [variant for variant in NAMES if variant in names]


def baselines(names: Container[str]) -> list[str]:
    """`measured`, but for the tuned prompt."""
    return [variant for variant in measured(names) if variant != "tuned"]


def difference_names(names: Container[str]) -> list[str]:
    """What the tuned prompt's differences to the baselines among `names` are called."""
    return [f"tuned_minus_{variant}" for variant in baselines(names)]


def tuned_name(virtual_tokens: int) -> str:
    """What the tuned variant is called: without virtual tokens, as with LoRA, there is no prompt."""
    return NAMES["tuned"] if virtual_tokens else "tuned model"
