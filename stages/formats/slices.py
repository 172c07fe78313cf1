"""The slice syntax of Hugging Face `datasets` (`train[:10%]`, `train[10:20]+train[-5:]`) on a table."""

import re

import pyarrow as pa

from stages.workspace.errors import InputError

SPLIT = "train"  # files that name no split are "train", as in `datasets`


def take_split(table: pa.Table, split: str) -> pa.Table:
    """The rows of `table` that `split` names.

    Raises:
        InputError: if the syntax is wrong, the split does not exist, or the slice is empty.
    """
    from datasets import ReadInstruction

    names = {match[1] for part in split.split("+") if (match := re.match(r"\s*([\w-]+)", part))}
    if names - {SPLIT}:
        raise InputError(
            f"data.split: {split!r}: no split {', '.join(sorted(names - {SPLIT}))}; the data set has: {SPLIT}"
        )
    try:
        slices = ReadInstruction.from_spec(split).to_absolute({SPLIT: table.num_rows})
    except (ValueError, AssertionError) as error:
        raise InputError(
            f"data.split: {split!r} is not in the slice syntax of `datasets` (such as train, train[:10%] or "
            f"train[100:200]): {' '.join(str(error).split())}"
        ) from None
    rows = pa.concat_tables([table.slice(part.from_, part.to - part.from_) for part in slices])
    if not rows.num_rows:
        raise InputError(f"data.split: {split!r} selects none of the {table.num_rows} rows")
    return rows
