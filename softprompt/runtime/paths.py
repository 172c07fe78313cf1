"""Where things lie, relative to the repository's root: the paths that dvc.yaml declares."""

import os
from pathlib import Path

BASE_MODEL = Path("models/base")
ADAPTER = Path("models/adapter")
GENERAL = Path("data/general")
LOCAL_SOURCES = Path("data/sources")
RAW = Path("data/raw")
PREPARED = Path("data/prepared")
TOKENIZED = Path("data/tokenized")
RESULTS = Path("results")
FOLDERS = (BASE_MODEL, RAW, GENERAL, PREPARED, TOKENIZED, ADAPTER)  # of outputs, each with a manifest

SPLITS = ("train", "validation", "test")


def main_repository() -> Path:
    """The repository that the user works in, also where DVC runs an experiment in a workspace of its own."""
    return Path(os.environ.get("DVC_ROOT", "."))
