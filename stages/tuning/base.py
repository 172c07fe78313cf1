"""Loading the frozen base model, for training and for evaluation alike."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from stages.engine.linear import freeze
from stages.params import Params
from stages.workspace.errors import InputError


def load_base_model(folder: Path, params: Params) -> PreTrainedModel:
    """The base model of `folder` in `model.dtype` on `device`, in evaluation mode, with `threads` threads set.

    `folder` is used as given: PEFT writes it into the adapter, so it has to be relative to the repository's root.

    Raises:
        InputError: if `device` is cuda and there is none.
    """
    if params.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device: torch finds no CUDA device here; allowed: cpu, or auto (cuda only where there is one)"
        )
    torch.set_num_threads(params.threads)
    torch.use_deterministic_algorithms(True)
    # Else every buffer is filled before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    dtype = params.model.dtype if params.model.dtype == "auto" else getattr(torch, params.model.dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()
    freeze(model)
    if params.device == "cuda" or (params.device == "auto" and torch.cuda.is_available()):
        model.to("cuda")
    return model


def check_context(model: PreTrainedModel, prompt_tokens: int, longest_row: int, what: str) -> None:
    """Refuse rows that don't fit into the model's context behind `prompt_tokens` tokens of `what`.

    Raises:
        InputError: with the lengths and the knobs that change them.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and prompt_tokens + longest_row > context:
        raise InputError(
            f"{what} of {prompt_tokens} tokens and a row of {longest_row} make {prompt_tokens + longest_row}, but the "
            f"model's context is {context} tokens; lower it, or tokenize.max_length"
        )
