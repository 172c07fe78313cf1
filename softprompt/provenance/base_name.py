"""What an adapter calls its base model, so that the name is right on every machine."""

import json
from pathlib import Path

from peft import PeftConfig, PromptTuningConfig


def base_name(base: Path) -> tuple[str, str | None]:
    """Name and revision of the model in `base`, as PEFT's configurations have them.

    Of a repository of the Hugging Face hub its own and its commit. Of any other source one that no repository can have:
    a hub must not be asked for somebody else's model in its place.
    """
    record = json.loads((base / "source.json").read_text(encoding="utf-8"))
    scheme, separator, reference = record["source"].partition("://")
    if scheme == "hf" and "#" not in reference:
        return reference, record["commit"]
    return record["source"] if separator else f"path:{record['source']}", None


def set_base_name(config: PeftConfig, base: Path) -> None:
    """Give `config`, which is to be saved, the name of the model in `base`."""
    config.base_model_name_or_path, config.revision = base_name(base)
    if isinstance(config, PromptTuningConfig) and config.tokenizer_name_or_path is not None:
        config.tokenizer_name_or_path = config.base_model_name_or_path


def how_to_load(base: Path) -> str:
    """Python that loads an adapter in the current folder `ADAPTER` on this model."""
    name, revision = base_name(base)
    if revision is not None:
        return f"""from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("ADAPTER")
tokenizer = AutoTokenizer.from_pretrained("{name}", revision="{revision}")"""
    return f"""from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

BASE = "{base.as_posix()}"  # there, in the repository that made it; elsewhere a folder with the same model
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), "ADAPTER")
tokenizer = AutoTokenizer.from_pretrained(BASE)"""


def card_header(base: Path, *tags: str) -> str:
    """The beginning of a model card; the hub takes no other base model than one of its own."""
    name, revision = base_name(base)
    lines = [
        *([f"base_model: {name}"] if revision is not None else []),
        "library_name: peft",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in tags),
    ]
    return "\n".join(["---", *lines, "---"])
