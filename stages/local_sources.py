"""Note the local files that sources name: `python -m stages.local_sources`, or `dvc repro local_sources`.

The stages that fetch depend on these notes in place of the folders data/local/ and models/local/: what no source names
fetches nothing again.
"""

from pathlib import Path

from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.data.readers import select_data_files
from softprompt.data.readers.texts import select_text_files
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import sha256_of, write_json
from softprompt.runtime.paths import LOCAL_SOURCES
from softprompt.sources import local
from softprompt.sources.checkpoint import select_model_files
from softprompt.sources.repository import HEADER
from softprompt.sources.request import Select


def main(params: Params) -> None:
    """Write one file for each section: source and path -> SHA-256 of each local file; nothing of another source."""
    noted = {
        "model": _local_files(params.model.source, select_model_files, nested=False),
        "data": {
            name: digest
            for source in (params.data.source, params.data.validation_source, params.data.test_source)
            for name, digest in _local_files(source, select_data_files, nested=True).items()
        },
        "general": _local_files(params.general.source, select_text_files, nested=True),
        "chat_template": _template_file(params.tokenize.chat_template),
    }
    for name, files in noted.items():
        write_json(LOCAL_SOURCES / f"{name}.json", files)
    print("local_sources: " + ", ".join(f"{len(files)} files of {name}" for name, files in noted.items()))


def _local_files(source: str | None, select: Select, *, nested: bool) -> dict[str, str]:
    if source is None or "://" in local.resolved(source):
        return {}
    try:
        found = local.find(source, select, nested=nested)
    except InputError:  # the stage that fetches says so
        return {}
    header = [found.base / HEADER] if found.whole and nested and (found.base / HEADER).is_file() else []
    return {f"{source}: {file.relative_to(found.base).as_posix()}": sha256_of(file) for file in header + found.files}


def _template_file(path: str | None) -> dict[str, str]:
    if path is None or not Path(path).is_file():  # the stage that reads it says so
        return {}
    return {path: sha256_of(Path(path))}


if __name__ == "__main__":
    run_stage(main)
