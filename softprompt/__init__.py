"""Soft prompts for frozen language models: the library that the stages of the pipeline run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softprompt.engine.model import SharedPrefixModel

    __version__: str

__all__ = ["SharedPrefixModel", "__version__"]

# A stage that an editor runs as a file has its folder first on the path, where stages/tokenize.py would hide the
# standard library's `tokenize`. Every stage imports this package before anything that needs that one.
if Path(sys.path[0]).name == "stages":
    sys.path[0] = str(Path(sys.path[0]).parent)


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: `SharedPrefixModel`, which brings torch, and the version."""
    if name == "SharedPrefixModel":
        from softprompt.engine.model import SharedPrefixModel

        return SharedPrefixModel
    if name == "__version__":
        from softprompt.provenance.versions import VERSION

        return VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
