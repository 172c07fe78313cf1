"""Fetch an instruction data set to data/raw/: `python -m stages.fetch_data`, or `dvc repro fetch_data`."""

from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.data.readers import read_files, select_data_files
from softprompt.data.readers.hub import read_repository
from softprompt.data.rows import RAW_SCHEMA
from softprompt.runtime.outputs import output_folder, write_json
from softprompt.runtime.paths import RAW
from softprompt.runtime.progress import quiet_libraries
from softprompt.sources import fetched


def main(params: Params) -> None:
    """Write the rows of `data.split`, in the order of the source, to data/raw/rows.parquet."""
    data = params.data
    with fetched(data, "data", select_data_files) as found:
        if found.snapshot is None:
            rows, total = read_files(found.files, found.base, data)
        else:
            quiet_libraries()
            rows, total = read_repository(found.snapshot, found.files if "#" in data.source else [], data)
    import pyarrow as pa
    import pyarrow.parquet as pq

    with output_folder(RAW) as folder:
        pq.write_table(pa.Table.from_pylist(rows, schema=RAW_SCHEMA), folder / "rows.parquet")
        write_json(folder / "source.json", {**found.record, "rows": total, "split": data.split})
    print(f"fetch_data: {found.record['source']}: {len(rows):,} of {total:,} rows in {RAW}/rows.parquet")


if __name__ == "__main__":
    run_stage(main, network=True)
