"""The adapter's model card: PEFT writes a blank form, which would be hashed and shipped too."""

import json
from pathlib import Path

from softprompt.config.train import Train
from softprompt.provenance.base_name import card_header, how_to_load


def model_card(base: Path, train: Train, virtual_tokens: int, validation_loss: float, step: int) -> str:
    """README.md of the adapter, in the hub's format: what it is, how it was made, how to load it.

    It says nothing that the train stage doesn't read: a card must not go stale when another stage's params change.

    Args:
        base: the base model's folder.
        train: the section, with the learning rate that was used.
        virtual_tokens: of the prompt.
        validation_loss: in nats per answer token.
        step: whose prompt it is.
    """
    source = json.loads((base / "source.json").read_text(encoding="utf-8"))["source"]
    method = train.method.replace("_", " ")
    rows = train.batch_size * train.gradient_accumulation_steps
    kind, tags, what = (
        (
            "Soft prompt",
            [method.replace(" ", "-"), "soft-prompt"],
            f"{virtual_tokens} virtual tokens in front of the frozen model, in PEFT's format: {method},\n"
            f"{train.initialisation} initialisation",
        )
        if virtual_tokens
        else ("LoRA", [method], f"Layers of rank {train.lora_r} beside those of the frozen model, in PEFT's format")
    )
    return f"""{card_header(base, *tags)}

# {kind} for {source}

{what}, {train.optim} with a peak learning rate of {train.learning_rate:g},
{train.lr_scheduler_type} schedule, {rows} rows a step. This is the state of step {step},
where the validation loss was lowest: {validation_loss:.4f} nats per answer token.

With this folder as ADAPTER:

```python
{how_to_load(base)}
```

Questions have to be put as in training: `origin.json` has the chat template, its variables, the date that it takes for
today, and the system turn.
"""
