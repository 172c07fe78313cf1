"""Per-token loss of each row under a model: bare, behind a hard prompt, or behind a soft one."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from stages.scoring.batches import collate
from stages.tokens import IGNORED
from stages.workspace.progress import tqdm


def with_hard_prompt(rows: Sequence[dict[str, list[int]]], prompt_ids: list[int]) -> list[dict[str, list[int]]]:
    """The rows with a text's tokens where the virtual tokens would stand: first, and without a label."""
    ignored = [IGNORED] * len(prompt_ids)
    return [{"input_ids": prompt_ids + row["input_ids"], "labels": ignored + row["labels"]} for row in rows]


@torch.inference_mode()
def row_losses(
    model: torch.nn.Module, rows: Sequence[dict[str, list[int]]], batch_size: int, description: str = "scoring"
) -> tuple[np.ndarray, np.ndarray]:
    """Summed loss in nats (float64) and number of label tokens (int64) of each row, in the order of `rows`.

    Rows of like length share a batch. `model` may be a plain causal language model or a PEFT model: logits that PEFT
    computes at virtual tokens stand before the rows' own.
    """
    training = model.training
    model.eval()
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    losses, tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    device = next(model.parameters()).device
    for start in tqdm(range(0, len(rows), batch_size), desc=description, leave=False):
        chosen = order[start : start + batch_size]
        batch = {name: values.to(device) for name, values in collate([rows[index] for index in chosen]).items()}
        labels = batch.pop("labels")
        logits = model(**batch).logits
        virtual = logits.shape[1] - labels.shape[1]
        for index, row_labels, row_logits in zip(chosen, labels, logits, strict=True):
            positions = torch.nonzero(row_labels != IGNORED).squeeze(1)
            # The position before a label predicts it.
            predictions = row_logits[positions + virtual - 1].float()
            loss = cross_entropy(predictions, row_labels[positions], reduction="none")
            losses[index], tokens[index] = loss.double().sum().item(), len(positions)
    model.train(training)
    return losses, tokens
