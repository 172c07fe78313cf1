"""Tokenized rows as an Arrow stream, and what is counted of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from softprompt.data.templates.workers import EncodedBatch
from softprompt.data.tokens import IGNORED, TOKENIZED_SCHEMA
from softprompt.runtime.progress import tqdm


def write_split(path: Path, batches: Iterator[EncodedBatch], bar: tqdm) -> dict:
    """Write the batches as one Arrow stream and return the split's token statistics."""
    lengths, label_tokens, truncated, dropped = [np.zeros(0, int)], 0, 0, list[int]()
    with pa.ipc.new_stream(path, TOKENIZED_SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch.rows)
            lengths.append(np.diff(batch.rows.column("input_ids").offsets.to_numpy()))
            label_tokens += int((batch.rows.column("labels").flatten().to_numpy() != IGNORED).sum())
            truncated += batch.truncated
            dropped += batch.dropped
            bar.update(batch.rows.num_rows + len(batch.dropped))
    length = np.concatenate(lengths)
    percentiles = {p: int(np.percentile(length, p, method="higher")) for p in (5, 50, 95, 99)} if len(length) else {}
    return {
        "rows": len(length),
        "tokens": int(length.sum()),
        "label_tokens": label_tokens,
        **{f"p{p}": value for p, value in percentiles.items()},
        "max": int(length.max(initial=0)),
        "truncated": truncated,
        "dropped": len(dropped),
        **({"shortest_dropped": min(dropped)} if dropped else {}),
    }
