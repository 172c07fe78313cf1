"""Tokenized rows as an Arrow stream, and what is counted of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from softprompt.data.templates.workers import EncodedBatch, Told
from softprompt.data.tokens import IGNORED, TOKENIZED_SCHEMA
from softprompt.runtime.progress import tqdm

EXAMPLES = 3  # rows that are named for a reason


def write_split(path: Path, batches: Iterator[EncodedBatch], bar: tqdm) -> dict:
    """Write the batches as one Arrow stream and return the split's token statistics.

    `reasons` has what is told of rows, those of most rows first: with the rows' number, whether they are dropped, the
    first of them by name, and what is to be seen in the very first.
    """
    lengths, label_tokens, truncated = [np.zeros(0, int)], 0, 0
    no_room, told = list[int](), dict[tuple[str, bool], list[Told]]()
    with pa.ipc.new_stream(path, TOKENIZED_SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch.rows)
            lengths.append(np.diff(batch.rows.column("input_ids").offsets.to_numpy()))
            label_tokens += int((batch.rows.column("labels").flatten().to_numpy() != IGNORED).sum())
            truncated += batch.truncated
            no_room += batch.no_room
            for row in batch.told:
                told.setdefault((row.reason, row.dropped), []).append(row)
            bar.update(batch.rows.num_rows + sum(row.dropped for row in batch.told))
    length = np.concatenate(lengths)
    percentiles = {p: int(np.percentile(length, p, method="higher")) for p in (5, 50, 95, 99)} if len(length) else {}
    reasons = [
        {
            "reason": reason,
            "rows": len(rows),
            "dropped": dropped,
            "examples": [row.example_id for row in rows[:EXAMPLES]],
            "detail": rows[0].detail,
        }
        for (reason, dropped), rows in sorted(told.items(), key=lambda item: -len(item[1]))
    ]
    return {
        "rows": len(length),
        "tokens": int(length.sum()),
        "label_tokens": label_tokens,
        **{f"p{p}": value for p, value in percentiles.items()},
        "max": int(length.max(initial=0)),
        "truncated": truncated,
        "dropped": sum(reason["rows"] for reason in reasons if reason["dropped"]),
        **({"shortest_dropped": min(no_room)} if no_room else {}),
        "reasons": reasons,
    }
