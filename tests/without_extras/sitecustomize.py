"""Python's own hook, for the processes that tests start: the environment of a user who has not installed the extras.

PEFT and transformers import bitsandbytes wherever it is there, which takes each of hundreds of processes a second.
"""

import sys

sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
