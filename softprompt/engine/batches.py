"""Rows of tokens as padded batches, for training and scoring alike."""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence

from softprompt.data.tokens import IGNORED


def collate(rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Pad rows on the right to the longest: input_ids, attention_mask and labels, each (rows, length), int64.

    Padding is masked and has no label, so its token (0) is never seen.
    """
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence([torch.tensor(row["labels"]) for row in rows], batch_first=True, padding_value=IGNORED),
    }


def row_lengths(rows: Dataset) -> np.ndarray:
    """Tokens of each row, read from Arrow's offsets: the tokens themselves are not touched."""
    return pc.list_value_length(rows.with_format("arrow")[:]["input_ids"]).to_numpy()
