"""`model.quantization`: the frozen base model's linear layers in 4 bits, by bitsandbytes through transformers."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig, BitsAndBytesConfig

from softprompt.runtime.errors import InputError

INSTALL = "pip install bitsandbytes==0.50.2"


def quantized(folder: Path, dtype: str, place: Any) -> dict[str, Any]:
    """What `from_pretrained` takes to load the model in `folder` in NF4 (Dettmers et al. 2023, arXiv:2305.14314).

    The layers compute in `dtype`, as the rest of the model does.

    Args:
        folder: of a model with weights that are not quantized.
        dtype: a precision, or auto, the stored one.
        place: the device map, or None: the CPU.

    Raises:
        InputError: if bitsandbytes is missing, or the weights are stored quantized already.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(f"model.quantization: 4bit needs one more package: {INSTALL}")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    for part in (config, config.get_text_config()):
        if stored := getattr(part, "quantization_config", None):
            method = stored.get("quant_method", "")
            raise InputError(
                f"model.quantization: 4bit, but the weights are stored quantized ({method}); allowed: null"
            )
    if dtype == "auto":
        dtype = str(config.dtype or "float32").removeprefix("torch.")
    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    # Without a device map transformers would choose a GPU where there is one.
    return {"dtype": dtype, "device_map": place or {"": "cpu"}, "quantization_config": four_bits}


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say what to do where a device map has no room for the quantized model.

    Raises:
        InputError: in place of transformers' error.
    """
    try:
        yield
    except ValueError as error:
        if "dispatched on the CPU or the disk" not in str(error):
            raise
        raise InputError(
            "model.quantization: even in 4 bits the model doesn't fit on the GPUs, and on the CPU or the disk 4 bits "
            "can't stay; allowed: a smaller model, more GPUs, or null here"
        ) from None
