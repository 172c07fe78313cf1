"""Per-token loss of each row conditioned on a model's prompt, in length-grouped batches."""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset

from softprompt import distributed
from softprompt.data.tokens import Row
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.packing import row_lengths
from softprompt.runtime.progress import tqdm


@torch.inference_mode()
def row_losses(
    model: SharedPrefixModel,
    rows: Sequence[Row] | Dataset,
    batch_size: int,
    description: str = "scoring",
) -> tuple[np.ndarray, np.ndarray]:
    """Summed loss in nats (float64) and number of label tokens (int64) of each row, in the order of `rows`.

    Rows of similar length share a batch, and what they begin with runs once. Several processes share the batches, and
    each has all losses then: the same bytes as from one. With the adapter disabled the losses are the base model's.
    """
    lengths = row_lengths(rows) if isinstance(rows, Dataset) else [len(row["input_ids"]) for row in rows]
    order = np.argsort(lengths, kind="stable").tolist()
    losses, tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    starts = distributed.own_part(range(0, len(rows), batch_size))
    for start in tqdm(starts, desc=description, leave=False):
        chosen = order[start : start + batch_size]
        of_label, row = model.token_losses([rows[index] for index in chosen])
        of_row = torch.zeros(len(chosen), dtype=torch.float64, device=row.device).index_add(0, row, of_label.double())
        losses[chosen], tokens[chosen] = of_row.cpu().numpy(), row.bincount(minlength=len(chosen)).cpu().numpy()
    return distributed.summed(losses), distributed.summed(tokens)
