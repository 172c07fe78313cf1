"""Loading the frozen base model, for training and for evaluation alike."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from softprompt import distributed
from softprompt.config import Params
from softprompt.data.tokens import context_of
from softprompt.engine.linear import freeze
from softprompt.runtime.errors import InputError


def load_base_model(folder: Path, params: Params) -> PreTrainedModel:
    """The base model of `folder` in `model.dtype`, in evaluation mode, with `threads` threads set.

    Where `model.dtype` is None, that is float32 on a CPU, and as it is stored on a GPU.

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
            "model.device_map: auto takes all devices for one process; allowed with launcher: python, or null here"
        )
    torch.set_num_threads(params.threads)
    torch.use_deterministic_algorithms(True)
    # Else every buffer is filled before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # A device map takes every GPU that there is.
    on_gpu = torch.cuda.is_available() and (params.device != "cpu" or params.model.device_map is not None)
    place = params.model.device_map or ({"": torch.cuda.current_device()} if on_gpu else None)
    dtype = params.model.dtype or ("auto" if on_gpu else "float32")
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
    """Refuse rows that don't fit into the model's context after `prompt_tokens` tokens of `what`.

    Raises:
        InputError: with the lengths and the parameters that change them.
    """
    context = context_of(model.config)
    if context is not None and prompt_tokens + longest_row > context:
        left = context - prompt_tokens
        raise InputError(
            f"{what} of {prompt_tokens} tokens and a row of {longest_row} make {prompt_tokens + longest_row}, but the "
            f"model's context is {context} tokens; lower it" + f", or tokenize.max_length to {left}" * (left > 1)
        )


def check_lengths(
    model: PreTrainedModel, *, hard: int, soft: int, longest_row: int, longest_question: int, new_tokens: int
) -> None:
    """Refuse rows, or questions and their answers, that don't fit into the model's context after each prompt.

    Args:
        model: the base model.
        hard: tokens of the hard prompt.
        soft: tokens of the soft prompt.
        longest_row: tokens of the longest row.
        longest_question: tokens of the longest question that is answered.
        new_tokens: tokens that an answer may have.

    Raises:
        InputError: with the lengths and the parameters that change them.
    """
    check_context(model, soft, longest_row, "train.num_virtual_tokens: a soft prompt")
    check_context(model, hard, longest_row, "evaluate.hard_prompt: a text")
    answer = f"evaluate.generate.max_new_tokens: an answer of {new_tokens} tokens after a prompt"
    check_context(model, new_tokens + max(hard, soft), longest_question, answer)


def hard_prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of `evaluate.hard_prompt`.

    Raises:
        InputError: if it has none.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError(f"evaluate.hard_prompt: {text!r} has no token in this model's vocabulary")
    return ids
