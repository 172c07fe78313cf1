"""Clean, de-duplicate and split the rows to data/prepared/: `python -m stages.prepare`, or `dvc repro prepare`."""

import contextlib

from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import output_folder, verified, write_json
from softprompt.runtime.paths import PREPARED, RAW, RESULTS, SPLITS


def main(params: Params) -> None:
    """Write train, validation and test.parquet, and the count of rows in, dropped and kept.

    The rows are read twice: once for the hashes, which decide about all, and once to write those that are kept.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from softprompt.data.rows import PREPARED_SCHEMA
    from softprompt.data.rows.cleaning import selected
    from softprompt.data.rows.parts import cleaned_parts, hashes_of
    from softprompt.data.rows.splitting import splits_of

    prepare = params.prepare
    with pq.ParquetFile(verified(RAW, "fetch_data") / "rows.parquet") as raw:
        hashes = pd.concat([hashes_of(rows) for rows in cleaned_parts(raw, "prepare: hash")], ignore_index=True)
        keep, dropped = selected(hashes["example"].to_numpy(), hashes["fault"], prepare.max_samples)
        if not keep.any():
            raise InputError(f"prepare: none of the {len(keep)} rows is left ({_counts(dropped)}); check data.columns")
        kept = hashes["question"].to_numpy()[keep]
        split_of = splits_of(kept, prepare.validation, prepare.test)
        counts = {split: int((split_of == split).sum()) for split in SPLITS}
        questions = {split: len(np.unique(kept[split_of == split])) for split in SPLITS}
        if empty := [split for split in SPLITS if not counts[split]]:
            raise InputError(
                f"prepare: the {sum(questions.values())} distinct questions leave no row for {' and '.join(empty)}; "
                "allowed: more rows (data.split, prepare.max_samples), or larger fractions (prepare.validation, "
                "prepare.test)"
            )
        wanted = np.full(len(keep), "", dtype=split_of.dtype)
        wanted[keep] = split_of
        with output_folder(PREPARED) as folder, contextlib.ExitStack() as files:
            writers = {
                split: files.enter_context(pq.ParquetWriter(folder / f"{split}.parquet", PREPARED_SCHEMA))
                for split in SPLITS
            }
            start = 0
            for rows in cleaned_parts(raw, "prepare: write"):
                for split, part in rows.groupby(wanted[start : start + len(rows)]):
                    if split:
                        table = pa.Table.from_pandas(part, schema=PREPARED_SCHEMA, preserve_index=False)
                        # Without pandas' own metadata, which holds its version.
                        writers[split].write_table(table.replace_schema_metadata(None))
                start += len(rows)
    # Lists, which DVC shows no columns for: its table of metrics has to fit a terminal.
    report = {
        "rows_in": len(keep),
        "dropped": sum(dropped.values()),
        "kept": len(kept),
        "reasons": [{"reason": reason, "rows": count} for reason, count in dropped.items()],
        "splits": [{"split": split, "rows": counts[split], "questions": questions[split]} for split in SPLITS],
    }
    write_json(RESULTS / "prepare.json", report)
    print(f"prepare: {len(keep):,} rows in; dropped {_counts(dropped)}; kept {_counts(counts)}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


if __name__ == "__main__":
    run_stage(main)
