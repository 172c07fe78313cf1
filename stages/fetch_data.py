"""Fetch an instruction data set to data/raw/: `python -m stages.fetch_data`, or `dvc repro fetch_data`."""

import pyarrow as pa
import pyarrow.parquet as pq

from stages.formats import read_rows, select_data_files
from stages.formats.slices import take_split
from stages.params import Params
from stages.rows import RAW_SCHEMA
from stages.sources import fetched
from stages.workspace.errors import InputError
from stages.workspace.guard import run_stage
from stages.workspace.outputs import output_folder, write_json
from stages.workspace.paths import RAW
from stages.workspace.progress import tqdm


def main(params: Params) -> None:
    """Write the rows of `data.split`, in the order of the source, to data/raw/rows.parquet."""
    data = params.data
    with fetched(data.source, data.sha256, "data", select_data_files) as (files, record):
        try:
            bar = tqdm((row for path in files for row in read_rows(path, data.columns)), desc="fetch_data")
            table = pa.Table.from_pylist(list(bar), schema=RAW_SCHEMA)
            if not table.num_rows:
                raise InputError("the data set has no rows")
        except InputError as error:
            raise InputError(f"data.source: {data.source!r}: {error}") from error
    rows = take_split(table, data.split)
    with output_folder(RAW) as folder:
        pq.write_table(rows, folder / "rows.parquet")
        write_json(folder / "source.json", {**record, "rows": table.num_rows, "split": data.split})
    print(f"fetch_data: {data.source}: {rows.num_rows:,} of {table.num_rows:,} rows in {RAW}/rows.parquet")


if __name__ == "__main__":
    run_stage(main, network=True)
