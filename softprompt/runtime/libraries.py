"""Other people's libraries: imported without delay, and with no more to say than a reader of a log can use."""

import gc
import importlib
import os
import sys
import warnings

if not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":  # of several processes the first shows its own
    # Every library's bars. tqdm reads this once, when it is first imported: that is here, for the project's own.
    os.environ.setdefault("TQDM_DISABLE", "1")

from tqdm import tqdm

__all__ = ["load_libraries", "quiet_libraries", "tqdm"]


def load_libraries() -> None:
    """Import what transformers needs for models, torch too, and switch off its warnings.

    These are half a million objects that stay, and Python's garbage collector would look through all of them time and
    again: 2 of the 7 seconds that a training takes to start. So it waits here, and leaves them alone for good.
    """
    if "transformers.modeling_utils" not in sys.modules:  # or a model that nobody uses any more would stay, too
        collects = gc.isenabled()
        gc.disable()
        try:
            importlib.import_module("transformers.modeling_utils")
            gc.freeze()
        finally:
            if collects:
                gc.enable()
    quiet_libraries()


def quiet_libraries() -> None:
    """Switch off transformers' warnings: advice that a user of the pipeline can't act on."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
