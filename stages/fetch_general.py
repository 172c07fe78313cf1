"""Fetch out-of-domain text to data/general/: `python -m stages.fetch_general`, or `dvc repro fetch_general`."""

from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.data.readers.texts import read_texts, select_text_files
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import output_folder, write_json
from softprompt.runtime.paths import GENERAL
from softprompt.sources import fetched


def main(params: Params) -> None:
    """Write the texts, in the order of the source, to data/general/texts.parquet; none where there is no source."""
    general = params.general
    texts: list[str] = []
    record: dict[str, str | None] = {"source": None}
    if general.source is not None:
        with fetched(general, "general", select_text_files) as found:
            record = found.record
            files = select_text_files(found.files)  # a hub's repository has others beside them
            texts = [text for path in files for text in read_texts(path, general.column)]
            if not texts:
                raise InputError("there is no text in it")
    import pyarrow as pa
    import pyarrow.parquet as pq

    with output_folder(GENERAL) as folder:
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / "texts.parquet")
        write_json(folder / "source.json", {**record, "texts": len(texts)})
    print(f"fetch_general: {record['source'] or 'no source'}: {len(texts):,} texts in {GENERAL}/texts.parquet")


if __name__ == "__main__":
    run_stage(main, network=True)
