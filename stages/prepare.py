"""Clean, de-duplicate and split the rows to data/prepared/: `python -m stages.prepare`, or `dvc repro prepare`."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.params import Params
from stages.rows import PREPARED_SCHEMA
from stages.rows.cleaning import cleaned
from stages.rows.splitting import split_of
from stages.workspace.errors import InputError
from stages.workspace.guard import run_stage
from stages.workspace.outputs import output_folder, verified, write_json
from stages.workspace.paths import PREPARED, RAW, RESULTS, SPLITS


def main(params: Params) -> None:
    """Write train, validation and test.parquet, and the count of rows in, dropped and kept."""
    prepare = params.prepare
    raw = pd.read_parquet(verified(RAW, "fetch_data") / "rows.parquet")
    rows, dropped = cleaned(raw, prepare.max_rows)
    if rows.empty:
        raise InputError(f"prepare: none of the {len(raw)} rows is left ({_counts(dropped)}); check data.columns")
    rows["split"] = rows["question_id"].map(lambda question: split_of(question, prepare.validation, prepare.test))
    kept = {split: rows[rows["split"] == split] for split in SPLITS}
    if empty := [split for split in SPLITS if kept[split].empty]:
        questions = rows["question_id"].nunique()
        raise InputError(
            f"prepare: the {questions} distinct questions leave no row for {' and '.join(empty)}; allowed: more rows "
            "(data.split, prepare.max_rows), or larger fractions (prepare.validation, prepare.test)"
        )
    with output_folder(PREPARED) as folder:
        for split, part in kept.items():
            table = pa.Table.from_pandas(part, schema=PREPARED_SCHEMA, preserve_index=False)
            # Without pandas' own metadata, which holds its version.
            pq.write_table(table.replace_schema_metadata(None), folder / f"{split}.parquet")
    counts = {split: len(part) for split, part in kept.items()}
    # Lists, which DVC shows no columns for: its table of metrics has to fit a terminal.
    report = {
        "rows_in": len(raw),
        "dropped": sum(dropped.values()),
        "kept": len(rows),
        "reasons": [{"reason": reason, "rows": count} for reason, count in dropped.items()],
        "splits": [
            {"split": split, "rows": len(part), "questions": part["question_id"].nunique()}
            for split, part in kept.items()
        ],
    }
    write_json(RESULTS / "prepare.json", report)
    print(f"prepare: {len(raw):,} rows in; dropped {_counts(dropped)}; kept {_counts(counts)}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


if __name__ == "__main__":
    run_stage(main)
