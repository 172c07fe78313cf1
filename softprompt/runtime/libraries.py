"""transformers, and the libraries that it imports: loaded without delay, and quiet about what nobody can act on."""

import gc
import warnings


def load_libraries() -> None:
    """Import what transformers needs for models, torch too, and switch off its warnings.

    These are half a million objects that stay, and Python's garbage collector would look through all of them time and
    again: 2 of the 7 seconds that a training takes to start. So it waits here, and leaves them alone for good.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        import transformers.modeling_utils  # noqa: F401, for what it imports
    finally:
        if enabled:
            gc.freeze()
            gc.enable()
    quiet_libraries()


def quiet_libraries() -> None:
    """Switch off transformers' warnings: advice that a user of the pipeline can't act on."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
