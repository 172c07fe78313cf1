"""Per-token loss of each row conditioned on a model's prompt, in batches by a budget of tokens."""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset

from softprompt import distributed
from softprompt.data.tokens import IGNORED, Row
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.packing import row_lengths
from softprompt.engine.prefix import prompt_lengths
from softprompt.runtime.progress import tqdm


@torch.inference_mode()
def row_losses(
    model: SharedPrefixModel,
    rows: Sequence[Row] | Dataset,
    batch_size: int,
    description: str = "scoring",
    ahead: Sequence[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Summed loss in nats (float64) and number of label tokens (int64) of each row, in the order of `rows`.

    A batch is as many rows as have no more tokens, the prompt before each included, than `batch_size` of the longest
    ones; what they begin with runs once. Several processes share the batches, and each has all losses then: the same
    bytes as from one. With the adapter disabled the losses are the base model's.

    Args:
        model: the model with its prompt.
        rows: a `Dataset` is read a batch at a time.
        batch_size: of the longest rows.
        description: for the progress bar.
        ahead: tokens before each row, in the place of virtual tokens: without a label.
    """
    lengths = row_lengths(rows) if isinstance(rows, Dataset) else np.array([len(row["input_ids"]) for row in rows])
    prompt = len(ahead) + sum(prompt_lengths(model.prompt()))
    batches = by_budget(lengths + prompt, batch_size * (int(lengths.max(initial=0)) + prompt))
    losses, tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    for chosen in tqdm(distributed.own_part(batches), desc=description, leave=False):
        found = model.token_losses([_behind(ahead, rows[index]) for index in chosen])
        of_label, row = (values.cpu() for values in found)  # not every GPU has float64
        of_row = torch.zeros(len(chosen), dtype=torch.float64).index_add(0, row, of_label.double())
        losses[chosen], tokens[chosen] = of_row.numpy(), row.bincount(minlength=len(chosen)).numpy()
    return distributed.summed(losses), distributed.summed(tokens)


def _behind(ahead: Sequence[int], row: Row) -> Row:
    ignored = [IGNORED] * len(ahead)
    return {"input_ids": [*ahead, *row["input_ids"]], "labels": [*ignored, *row["labels"]]}


def by_budget(lengths: np.ndarray, budget: int) -> list[list[int]]:
    """Indices of rows in batches, from the shortest rows on: as many as have `budget` tokens if padded."""
    batches: list[list[int]] = []
    for index in np.argsort(lengths, kind="stable").tolist():
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
