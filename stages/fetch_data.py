"""Fetch an instruction data set to data/raw/: `python -m stages.fetch_data`, or `dvc repro fetch_data`."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

from softprompt.config import Params
from softprompt.config.data import Data
from softprompt.config.stage import run_stage
from softprompt.data.readers import Rows, Wanted, select_data_files
from softprompt.data.readers.splits import wanted_files
from softprompt.data.rows import RAW_SCHEMA
from softprompt.data.rows.parts import PART
from softprompt.runtime.outputs import output_folder, write_json
from softprompt.runtime.paths import RAW
from softprompt.runtime.progress import quiet_libraries
from softprompt.sources import fetched


def main(params: Params) -> None:
    """Write the rows, in the order of their sources, to data/raw/rows.parquet: those of `data.split`, and those of the
    validation and test splits where the data set, or another, has them. Bad rows too, with what is wrong with them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    quiet_libraries()
    data = params.data
    records = {}
    with output_folder(RAW) as folder:
        with pq.ParquetWriter(folder / "rows.parquet", RAW_SCHEMA) as writer:
            for source, wanted in _wanted(data).items():
                read, bad = 0, 0
                files = partial(wanted_files, {want.key: want.slice for want in wanted}, data.subset)
                with fetched(_of(source, data), "data", select_data_files, files) as found:
                    rows = Rows(found, data, wanted)
                    for want in wanted:
                        for part in _parts(rows.rows(want)):
                            writer.write_table(pa.Table.from_pylist(part, schema=RAW_SCHEMA))
                            read += len(part)
                            bad += sum(bool(row["fault"]) for row in part)
                    record = {
                        **found.record,
                        "rows": rows.count,
                        "split": " and ".join(want.slice or "all" for want in wanted),
                    }
                records[source] = record
                note = f", {bad:,} of them bad (prepare says why)" if bad else ""
                print(
                    f"fetch_data: {record['source']}: {read:,} of {rows.count:,} rows in {RAW}/rows.parquet{note}",
                    flush=True,
                )
        first, *others = records.values()
        write_json(folder / "source.json", {**first, **({"others": others} if others else {})})


def _wanted(data: Data) -> dict[str, list[Wanted]]:
    """What is wanted of each source, the first of which is `data.source`."""
    wanted = {data.source: [Wanted("train", data.split, "data.split")]}
    for split in ("validation", "test"):
        source, part = getattr(data, f"{split}_source"), getattr(data, f"{split}_split")
        if source or part:
            wanted.setdefault(source or data.source, []).append(Wanted(split, part, f"data.{split}_split"))
    return wanted


def _of(source: str, data: Data) -> Data:
    """`data` of one of its sources: a revision or a hash that stands alone is of `data.source`."""
    update: dict = {"source": source}
    if source != data.source and not isinstance(data.sha256, dict):
        update["sha256"] = None
    if source.partition("#")[0] != data.source.partition("#")[0] and not isinstance(data.revision, dict):
        update["revision"] = None
    return data.model_copy(update=update)


def _parts(rows: Iterator[dict]) -> Iterator[list[dict]]:
    while part := list(islice(rows, PART)):
        yield part


if __name__ == "__main__":
    run_stage(main, network=True)
