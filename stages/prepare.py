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
    import pyarrow as pa
    import pyarrow.parquet as pq

    from softprompt.data.rows import PREPARED_SCHEMA
    from softprompt.data.rows.cleaning import selected
    from softprompt.data.rows.faults import Survey
    from softprompt.data.rows.parts import cleaned_parts
    from softprompt.data.rows.splitting import leaks, splits_of

    prepare = params.prepare
    with pq.ParquetFile(verified(RAW, "fetch_data") / "rows.parquet") as raw:
        survey = Survey(cleaned_parts(raw, "prepare: hash"))
        survey.check(params.data.bad_rows, params.data.max_bad_rows)
        fetched_for, faults = survey.rows["split"].astype(str), survey.rows["fault"].astype(str)
        given, questions = set(fetched_for) - {"train"}, survey.rows["question"].to_numpy()
        split_of = np.where(
            fetched_for == "train",
            splits_of(
                questions,
                0.0 if "validation" in given else prepare.validation,
                0.0 if "test" in given else prepare.test,
            ),
            fetched_for,
        )
        leaking = leaks(questions, np.where(faults == "", split_of, ""))
        leaked = {f"of_{split}": int((leaking & (split_of == split)).sum()) for split in ("train", "validation")}
        if leaking.any() and prepare.leakage == "refuse":
            raise InputError(
                f"prepare: {int(leaking.sum()):,} rows ask what a row of a later split asks too ({_counts(leaked)}): a "
                "prompt would be scored on what it has seen; prepare.leakage: drop leaves them out, allow keeps them"
            )
        if prepare.leakage == "drop":
            faults = faults.mask(leaking, "leakage")
        keep, dropped = selected(survey.rows["example"].to_numpy(), faults, fetched_for, prepare.max_samples)
        if not keep.any():
            raise InputError(f"prepare: none of the {len(keep)} rows is left ({_counts(dropped)}); check data.columns")
        kept = {split: keep & (split_of == split) for split in SPLITS}
        counts = {split: int(mask.sum()) for split, mask in kept.items()}
        distinct = {split: len(np.unique(questions[mask])) for split, mask in kept.items()}
        if empty := [split for split in SPLITS if not counts[split]]:
            if own := [split for split in empty if split in given]:
                raise InputError(
                    f"prepare: none of the rows that were given for {' and '.join(own)} is left ({_counts(dropped)}); "
                    f"see {' and '.join(f'data.{split}_source and data.{split}_split' for split in own)}"
                )
            raise InputError(
                f"prepare: the {sum(distinct.values())} distinct questions leave no row for {' and '.join(empty)}; "
                "allowed: more rows (data.split, prepare.max_samples), or larger fractions (prepare.validation, "
                "prepare.test)"
            )
        wanted = np.where(keep, split_of, "")
        with output_folder(PREPARED) as folder, contextlib.ExitStack() as files:
            writers = {
                split: files.enter_context(pq.ParquetWriter(folder / f"{split}.parquet", PREPARED_SCHEMA))
                for split in SPLITS
            }
            start = 0
            for rows in cleaned_parts(raw, "prepare: write"):
                for split, part in rows.groupby(wanted[start : start + len(rows)]):
                    if split:
                        table = pa.Table.from_pandas(
                            part[PREPARED_SCHEMA.names], schema=PREPARED_SCHEMA, preserve_index=False
                        )
                        # Without pandas' own metadata, which holds its version.
                        writers[str(split)].write_table(table.replace_schema_metadata(None))
                start += len(rows)
    # Lists, which DVC shows no columns for: its table of metrics has to fit a terminal.
    report = {
        "rows_in": len(keep),
        "dropped": sum(dropped.values()),
        "kept": sum(counts.values()),
        "reasons": [{"reason": reason, "rows": count, **survey.first_of(reason)} for reason, count in dropped.items()],
        "changed": [{"change": note, "rows": rows} for note, rows in survey.notes.items()],
        "leakage": [{"rows": split, "count": count} for split, count in leaked.items()] if given else [],
        "splits": [{"split": split, "rows": counts[split], "questions": distinct[split]} for split in SPLITS],
    }
    write_json(RESULTS / "prepare.json", report)
    for line in survey.lines():
        print(f"prepare: {line}")
    if survey.notes:
        print(f"prepare: parts of conversations left out: {_counts(survey.notes)}")
    if prepare.leakage == "allow" and leaking.any():
        print(f"prepare: kept, though a row of a later split asks the same: {_counts(leaked)}")
    print(f"prepare: {len(keep):,} rows in; dropped {_counts(dropped)}; kept {_counts(counts)}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())


if __name__ == "__main__":
    run_stage(main)
