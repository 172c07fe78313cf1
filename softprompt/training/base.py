"""Loading the frozen base model, for training and for evaluation alike."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from softprompt import distributed
from softprompt.config import Params
from softprompt.engine.linear import freeze
from softprompt.runtime.errors import InputError


def load_base_model(folder: Path, params: Params) -> PreTrainedModel:
    """The base model of `folder` in `model.dtype`, in evaluation mode, with `threads` threads set.

    Its weights go straight to `device`, or by `model.device_map` to several, without a second copy anywhere. `folder`
    is used as given: PEFT writes it into the adapter, so it has to be relative to the repository's root.

    Raises:
        InputError: if `device` is cuda and there is none, if each of several processes would take all devices, or if
            the weights don't fit.
    """
    if params.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device: torch finds no CUDA device here; allowed: cpu, or auto (cuda only where there is one)"
        )
    if params.model.device_map and distributed.count() > 1:
        raise InputError(
            "model.device_map: auto takes all devices for one process; allowed with launch: python, or null here"
        )
    torch.set_num_threads(params.threads)
    torch.use_deterministic_algorithms(True)
    # Else every buffer is filled before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    dtype = params.model.dtype if params.model.dtype == "auto" else getattr(torch, params.model.dtype)
    on_gpu = params.device == "cuda" or (params.device == "auto" and torch.cuda.is_available())
    place = params.model.device_map or ({"": torch.cuda.current_device()} if on_gpu else None)
    with naming_parameter(
        "model.dtype: bfloat16, a smaller model, or model.device_map: auto, which takes more devices"
    ):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map=place, trust_remote_code=False)
    freeze(model.eval())
    return model


@contextlib.contextmanager
def naming_parameter(parameter: str) -> Iterator[None]:
    """Say which parameter to change where memory runs out, of a GPU or of the machine.

    Raises:
        InputError: in place of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # The CPU's allocator has no class of its own for it.
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"out of memory; allowed: {parameter} ({first})") from error


def check_context(model: PreTrainedModel, prompt_tokens: int, longest_row: int, what: str) -> None:
    """Refuse rows that don't fit into the model's context behind `prompt_tokens` tokens of `what`.

    Raises:
        InputError: with the lengths and the parameters that change them.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and prompt_tokens + longest_row > context:
        raise InputError(
            f"{what} of {prompt_tokens} tokens and a row of {longest_row} make {prompt_tokens + longest_row}, but the "
            f"model's context is {context} tokens; lower it, or tokenize.max_length"
        )
