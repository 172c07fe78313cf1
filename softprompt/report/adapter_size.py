"""What the adapter is and how large: read from its files, without torch."""

import json
import math
from dataclasses import dataclass

from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import required
from softprompt.runtime.paths import ADAPTER


@dataclass(frozen=True)
class AdapterSize:
    """The adapter.

    Attributes:
        method: PEFT's name of it, such as "PROMPT_TUNING".
        virtual_tokens: tokens in front of each row; 0 of a method that has none.
        parameters: numbers in its weights.
        bytes: of the file with the weights.
    """

    method: str
    virtual_tokens: int
    parameters: int
    bytes: int


def adapter_size() -> AdapterSize:
    """Of models/adapter.

    Raises:
        InputError: if a file of it is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    config, weights = (
        required(ADAPTER / name, "train") for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
        method, virtual_tokens = str(values["peft_type"]), int(values.get("num_virtual_tokens") or 0)
        with safe_open(weights, framework="np") as tensors:
            parameters = sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"{ADAPTER} can't be read ({error}); repair it with: make repair") from None
    return AdapterSize(method, virtual_tokens, parameters, weights.stat().st_size)
