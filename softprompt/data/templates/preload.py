"""What the server of the tokenizing processes imports before it forks them: transformers, but not torch.

Tokenizers and configurations need none of it, and transformers leaves out what Python can't find: a third of the time.
"""

import os
import sys

os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # that models need torch
sys.modules["torch"] = None  # type: ignore[assignment]

from transformers import AutoConfig, AutoTokenizer  # noqa: E402

__all__ = ["AutoConfig", "AutoTokenizer"]
