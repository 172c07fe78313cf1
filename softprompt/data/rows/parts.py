"""The rows of a parquet file, a part at a time: no more of them is in memory."""

from collections.abc import Iterator

import pandas as pd
import pyarrow.parquet as pq

from softprompt.data.rows.cleaning import cleaned
from softprompt.runtime.progress import tqdm

PART = 20_000  # rows in memory at once, and of one row group of the output


def cleaned_parts(raw: pq.ParquetFile, what: str) -> Iterator[pd.DataFrame]:
    """The rows of `raw`, cleaned, a part at a time."""
    with tqdm(total=raw.metadata.num_rows, desc=what, unit=" rows") as bar:
        for batch in raw.iter_batches(PART):
            yield cleaned(batch.to_pandas())
            bar.update(len(batch))


def hashes_of(rows: pd.DataFrame) -> pd.DataFrame:
    """What has to be known of all rows at once: some 20 bytes of each."""
    numbers = {
        name: rows[f"{name}_id"].map(lambda digits: int(digits, 16)).astype("uint64")
        for name in ("example", "question")
    }
    return pd.DataFrame({**numbers, **{name: rows[name].astype("category") for name in ("fault", "note", "split")}})
