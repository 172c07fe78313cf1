"""Versions of the libraries that results depend on."""

import importlib.metadata
from collections.abc import Iterable

TRAINING = ("torch", "transformers", "peft", "accelerate", "numpy", "safetensors", "datasets")


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Library -> installed version; without the local part ("+cpu"), which names a machine's build."""
    return {library: importlib.metadata.version(library).partition("+")[0] for library in libraries}
