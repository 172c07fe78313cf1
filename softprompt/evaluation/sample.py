"""Which rows are answered, a sample by a hash that doesn't depend on their order, and how long answers may be."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset

from softprompt.data.rows import short_hash
from softprompt.data.tokens import IGNORED


def sampled_rows(example_ids: Sequence[str], rows: int | None, seed: int) -> list[int]:
    """Places, ascending, of at most `rows` examples, those whose hash with `seed` is lowest; None: of all."""
    ranked = sorted(range(len(example_ids)), key=lambda place: short_hash(f"{seed} {example_ids[place]}"))
    return sorted(ranked[:rows])


def longest_answer(tokenized: Path) -> int:
    """Tokens of the longest answer of the training and validation rows, its end token included.

    The test split's own answers are not looked at.
    """
    longest = 0
    for split in ("train", "validation"):
        rows = Dataset.from_file(str(tokenized / f"{split}.arrow")).with_format("arrow")
        for part in rows.iter(10_000):
            # Between two answers, of one row or of two, there is a question, which has no label.
            labelled = part["labels"].combine_chunks().flatten().to_numpy() != IGNORED
            starts_and_ends = np.flatnonzero(np.diff(np.concatenate([[0], labelled, [0]])))
            longest = max(longest, int(np.diff(starts_and_ends)[::2].max()))
    return longest
