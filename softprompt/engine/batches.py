"""Rows of tokens as padded batches, for models that can't have them packed."""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from softprompt.data.tokens import IGNORED, Row


def collate(rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Pad rows on the right to the longest: input_ids, attention_mask and labels, each (rows, length), int64.

    Padding is masked and has no label, so its token (0) is never seen.
    """
    ids = [torch.as_tensor(row["input_ids"]) for row in rows]
    labels = [torch.as_tensor(row["labels"]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }
