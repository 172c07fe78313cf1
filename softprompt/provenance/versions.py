"""Versions: softprompt's own, and those of the libraries that results depend on."""

import importlib.metadata
from collections.abc import Iterable

# The one place that has it; pyproject.toml reads it here. Not read from what is installed: there may be nothing, or the
# metadata of an older checkout, and one state of the code has to write the same bytes everywhere.
VERSION = "0.2.0"
TRAINING = ("torch", "transformers", "peft", "accelerate", "numpy", "safetensors", "datasets")


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Library -> installed version; without the local part ("+cpu"), which names a machine's build."""
    return {library: importlib.metadata.version(library).partition("+")[0] for library in libraries}
