"""Where things lie, relative to the repository's root: the paths that dvc.yaml declares."""

from pathlib import Path

BASE_MODEL = Path("models/base")
ADAPTER = Path("models/adapter")
GENERAL = Path("data/general")
LOCAL_SOURCES = Path("data/sources")
RAW = Path("data/raw")
PREPARED = Path("data/prepared")
TOKENIZED = Path("data/tokenized")
RESULTS = Path("results")

SPLITS = ("train", "validation", "test")
