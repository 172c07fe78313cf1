"""Training rows as the beginning of a prompt, and out of what it is trained on."""

from pathlib import Path

from datasets import Dataset

from softprompt.config.train import Train
from softprompt.data.templates import Template
from softprompt.data.templates.demonstrations import Demonstrations, demonstrations
from softprompt.runtime.errors import InputError


def taken_as_demonstrations(
    rows: Dataset, prepared: Path, template: Template, train: Train, seed: int
) -> tuple[Demonstrations, Dataset]:
    """What the prompt begins as, and the rows that are left to train on.

    Args:
        rows: the training rows, of `softprompt.data.tokens.TOKENIZED_SCHEMA`.
        prepared: the parquet file that they were made from.
        template: what made them.
        train: the section; where it asks for no demonstrations, there are none, and all rows are left.
        seed: which rows.

    Raises:
        InputError: if no row fits into the virtual tokens, or none would be left.
    """
    if train.initialisation != "demonstrations":
        return Demonstrations([], []), rows
    found = demonstrations(template, rows["example_id"], prepared, seed=seed, room=train.virtual_tokens)
    if not found.ids:
        raise InputError(
            f"train.num_virtual_tokens: {train.virtual_tokens} tokens have no room for a training row in the "
            "template, which train.init: demonstrations begins with; allowed: more tokens, or another train.init"
        )
    used = set(found.example_ids)
    left = [place for place, name in enumerate(rows["example_id"]) if name not in used]
    if not left:
        raise InputError(
            "train.init: demonstrations takes all training rows, and none is left to train on; allowed: a smaller "
            "train.num_virtual_tokens, or another train.init"
        )
    print(f"train: the prompt begins as {len(used)} training rows, {len(found.ids)} tokens; it is not trained on these")
    return found, rows.select(left)
