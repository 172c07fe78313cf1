"""Soft prompts for frozen language models: the library that the stages of the pipeline run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softprompt.engine.model import SharedPrefixModel

__all__ = ["SharedPrefixModel"]

# A stage that an editor runs as a file has its folder first on the path, where stages/tokenize.py would hide the
# standard library's `tokenize`. Every stage imports this package before anything that needs that one.
if Path(sys.path[0]).name == "stages":
    sys.path[0] = str(Path(sys.path[0]).parent)


def __getattr__(name: str) -> Any:
    """`SharedPrefixModel`, imported when it is asked for: it brings torch, which most of the package does without."""
    if name == "SharedPrefixModel":
        from softprompt.engine.model import SharedPrefixModel

        return SharedPrefixModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
