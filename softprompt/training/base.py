"""Loading the frozen base model, for training and for evaluation alike."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from softprompt import distributed
from softprompt.config import Params
from softprompt.data.tokens import check_embedded, context_of
from softprompt.engine.linear import cpu_matmul_of, freeze
from softprompt.runtime.errors import InputError
from softprompt.training.quantization import explained, quantized

# What the CPU's allocator says, CUDA itself and its cuBLAS: they have no class of their own for it.
NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def load_base_model(folder: Path, params: Params) -> PreTrainedModel:
    """The base model of `folder` in `model.dtype`, in evaluation mode, with `threads` threads set.

    Where `model.dtype` is None, that is float32 on a CPU, and as it is stored on a GPU, or bfloat16 where the linear
    layers are quantized. On a GPU, `model.tf32` sets how products of float32 are computed from here on. Of its
    `generation_config` the special tokens are kept, and nothing else.

    Its weights go straight to `device`, or by `model.device_map` to several, without a second copy anywhere. `folder`
    is used as given: PEFT writes it into the adapter, so it has to be relative to the repository's root.

    Raises:
        InputError: if `device` is none of this machine's, if each of several processes would take all devices, if the
            weights don't fit, or if they can't be quantized.
    """
    device = chosen_device(params.device)
    if params.model.device_map and distributed.count() > 1:
        raise InputError(
            "model.device_map: auto takes all devices for one process; allowed with launcher: python, or null here"
        )
    torch.set_num_threads(params.threads)
    torch.use_deterministic_algorithms(True)
    # Else every buffer is filled before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    place = params.model.device_map or (None if device.type == "cpu" else {"": device})
    # A device map takes every GPU that there is.
    on_gpu = device.type != "cpu" or (params.model.device_map is not None and torch.cuda.is_available())
    if params.model.quantization:
        how = quantized(folder, params.model.dtype or ("bfloat16" if on_gpu else "float32"), place)
    else:
        how = {"dtype": params.model.dtype or ("auto" if on_gpu else "float32"), "device_map": place}
    set_tf32(params.model.tf32)
    remedy = "model.dtype: bfloat16, model.quantization: 4bit, a smaller model, or model.device_map: auto, which takes "
    with naming_parameter(remedy + "more devices"), explained():
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, **how)
    freeze(model.eval(), params.cpu_matmul)
    # How answers are generated is params.yaml's to say: a checkpoint's own penalties and beams would go unseen.
    own = model.generation_config
    model.generation_config = GenerationConfig(
        **{name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    )
    return model


def chosen_device(name: str) -> torch.device:
    """The device that `device` in params.yaml names; auto is CUDA's where there is one, else the CPU.

    Raises:
        InputError: if this machine has none of that kind.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = "cuda" if there["cuda"] else "cpu"
    if not there[name]:
        what = {"cuda": "CUDA device", "mps": "GPU of Apple's (MPS)"}[name]
        raise InputError(f"device: torch finds no {what} here; allowed: cpu, or auto (cuda only where there is one)")
    return torch.device(name, torch.cuda.current_device()) if name == "cuda" else torch.device(name)


def set_tf32(allowed: bool) -> None:
    """Have a GPU compute products of float32 in TF32, with 10 bits of each factor's 23, or in float32.

    torch's own defaults differ: no TF32 in matrix products, but in convolutions, and in P-tuning's LSTM.
    """
    # Not by `fp32_precision`, the newer way: who still asks in this one, as torch's own compiler does, would fail then.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def chosen_by_auto(model: PreTrainedModel, params: Params, stage: str) -> dict[str, str]:
    """Key of params.yaml -> what a trial of the machine chose for its `auto` as `model` was loaded; `stage` says so."""
    library = cpu_matmul_of(model) if params.cpu_matmul == "auto" else None
    if library is None:
        return {}
    print(f"{stage}: cpu_matmul: auto chose {library}, the faster one here", flush=True)
    return {"cpu_matmul": library}


@contextlib.contextmanager
def naming_parameter(parameter: str) -> Iterator[None]:
    """Say which parameter to change where memory runs out, of a GPU or of the machine.

    Raises:
        InputError: in place of torch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(words in str(error) for words in NO_MEMORY):
            raise
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"out of memory; allowed: {parameter} ({first})") from error


def check_context(model: PreTrainedModel, prompt_tokens: int, longest_row: int, what: str) -> None:
    """Refuse rows that don't fit into the model's context after `prompt_tokens` tokens of `what`, or without any.

    Raises:
        InputError: with the lengths and the parameters that change them.
    """
    context = context_of(model.config)
    if context is not None and prompt_tokens + longest_row > context:
        left = context - prompt_tokens
        sizes = f" of {prompt_tokens} tokens and a row of {longest_row} make {prompt_tokens + longest_row}"
        if not prompt_tokens:
            sizes = f": a row has {longest_row} tokens"
        raise InputError(
            f"{what}{sizes}, but the model's context is {context} tokens; lower it"
            + f", or tokenize.max_length to {left}" * (left > 1)
        )


def check_lengths(
    model: PreTrainedModel, *, hard: int, soft: int, longest_row: int, longest_question: int, new_tokens: int
) -> None:
    """Refuse rows, or questions and their answers, that don't fit into the model's context after each prompt.

    Args:
        model: the base model.
        hard: tokens of the longest hard prompt.
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


def hard_prompt_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], config: PretrainedConfig
) -> list[list[int]]:
    """Token ids of each text of `evaluate.hard_prompt`.

    Args:
        tokenizer: the model's.
        texts: the prompts.
        config: the model's.

    Raises:
        InputError: if one has none, or one that the model has no embedding of.
    """
    found: list[list[int]] = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    for text, ids in zip(texts, found, strict=True):
        if not ids:
            raise InputError(f"evaluate.hard_prompt: {text!r} has no token in this model's vocabulary")
        check_embedded(ids, tokenizer, config, "evaluate.hard_prompt")
    return found
