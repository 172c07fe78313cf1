"""Fetch an instruction data set to data/raw/: `python -m stages.fetch_data`, or `dvc repro fetch_data`."""

import pyarrow as pa
import pyarrow.parquet as pq

from stages.formats import read_files, select_data_files
from stages.formats.repository import read_repository
from stages.params import Params
from stages.rows import RAW_SCHEMA
from stages.sources import fetched
from stages.workspace.errors import InputError
from stages.workspace.guard import run_stage
from stages.workspace.outputs import output_folder, write_json
from stages.workspace.paths import RAW
from stages.workspace.progress import quiet_libraries
from stages.workspace.secrets import redacted


def main(params: Params) -> None:
    """Write the rows of `data.split`, in the order of the source, to data/raw/rows.parquet."""
    data = params.data
    with fetched(data, "data", select_data_files) as found:
        try:
            if found.snapshot is None:
                rows, total = read_files(found.files, found.base, data)
            else:
                quiet_libraries()
                rows, total = read_repository(found.snapshot, found.files if "#" in data.source else [], data)
        except InputError as error:
            if str(error).startswith("data.split"):
                raise
            raise InputError(f"data.source: {data.source!r}: {error}") from error
    with output_folder(RAW) as folder:
        pq.write_table(pa.Table.from_pylist(rows, schema=RAW_SCHEMA), folder / "rows.parquet")
        write_json(folder / "source.json", {**found.record, "rows": total, "split": data.split})
    print(f"fetch_data: {redacted(data.source)}: {len(rows):,} of {total:,} rows in {RAW}/rows.parquet")


if __name__ == "__main__":
    run_stage(main, network=True)
