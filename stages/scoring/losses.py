"""Per-token loss of each row under a model: bare, behind a hard prompt, or behind a soft one."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from stages.engine.model import SharedPrefixModel
from stages.engine.prefix import Rows, token_losses
from stages.engine.sharing import obstacle
from stages.scoring.batches import collate
from stages.tokens import IGNORED
from stages.workspace.progress import tqdm


def with_hard_prompt(rows: Sequence[dict[str, list[int]]], prompt_ids: list[int]) -> list[dict[str, list[int]]]:
    """The rows with a text's tokens where the virtual tokens would stand: first, and without a label."""
    ignored = [IGNORED] * len(prompt_ids)
    return [{"input_ids": prompt_ids + row["input_ids"], "labels": ignored + row["labels"]} for row in rows]


@torch.inference_mode()
def row_losses(
    model: PreTrainedModel | SharedPrefixModel,
    rows: Sequence[dict[str, list[int]]],
    batch_size: int,
    description: str = "scoring",
) -> tuple[np.ndarray, np.ndarray]:
    """Summed loss in nats (float64) and number of label tokens (int64) of each row, in the order of `rows`.

    Rows of like length share a batch, and what they begin with runs once.
    """
    shares = isinstance(model, SharedPrefixModel) or obstacle(model, 0) is None
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    losses, tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    for start in tqdm(range(0, len(rows), batch_size), desc=description, leave=False):
        chosen = order[start : start + batch_size]
        batch = {name: values.to(model.device) for name, values in collate([rows[index] for index in chosen]).items()}
        if isinstance(model, SharedPrefixModel):
            of_label, row = model.token_losses(**batch)
        else:
            of_label, row = token_losses(model, Rows.of(**batch), share_preamble=shares)
        of_row = torch.zeros(len(chosen), dtype=torch.float64, device=row.device).index_add(0, row, of_label.double())
        losses[chosen], tokens[chosen] = of_row.cpu().numpy(), row.bincount(minlength=len(chosen)).cpu().numpy()
    return losses, tokens
