"""A new soft prompt on a frozen model."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from peft import PeftConfig, PeftType, PromptTuningConfig, initialize_kv_prefix_from_text
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from softprompt.config.train import INITS, Train
from softprompt.data.tokens import IGNORED, beginning_ids, check_embedded, embedded_ids
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.sharing import keeps_state, looks_up_ids
from softprompt.runtime.errors import InputError
from softprompt.training.methods import METHODS


def new_soft_prompt(
    base_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, base: Path, train: Train, seed: int
) -> SharedPrefixModel:
    """`base_model`, frozen, with a freshly initialised prompt in float32.

    PEFT owns the modules and the initialisation from text; what is random is drawn with numpy, whose streams are the
    same on every CPU (torch's `randn` differs between instruction sets).

    Raises:
        InputError: if the model can't be tuned by the method, or begin as `train.init` says.
    """
    if train.method != "prefix_tuning" and looks_up_ids(base_model):
        remedy = "another model" if keeps_state(base_model) else "prefix_tuning (train.init: random or zero)"
        raise InputError(
            f"train.method: {train.method}: the layers of this {base_model.config.model_type} model look up token ids, "
            f"which virtual tokens don't have; allowed: {remedy}"
        )
    config = METHODS[train.method].config(train, base, base_model.config)
    if train.initialisation == "text":
        ids = tokenizer(train.init_text, add_special_tokens=False)["input_ids"]
        check_embedded(ids, tokenizer, base_model.config, "train.init_text")
        _say_how_text_fits(len(ids), train.num_virtual_tokens)
        if beginning_ids(tokenizer) and isinstance(config, PromptTuningConfig):
            # The rows have it. PEFT encodes the text as its own tokenizer does by default, and again where it repeats.
            config.tokenizer_kwargs = {"add_bos_token": False}
    # PEFT draws too, in vain but for `text`; fork_rng keeps that out of the global generator.
    with torch.random.fork_rng():
        model = _with_prompt(base_model, config)
    encoder = model.get_submodule("prompt_encoder.default")
    generator = np.random.default_rng(seed)
    if train.initialisation == "random":
        _draw(encoder, generator)
    elif train.initialisation == "vocabulary":
        # Special tokens mean something else.
        ids = np.setdiff1d(embedded_ids(tokenizer, base_model.config), tokenizer.all_special_ids)
        wanted = train.num_virtual_tokens
        chosen = torch.from_numpy(generator.choice(ids, wanted, replace=len(ids) < wanted)).to(base_model.device)
        # As the layer puts them out: Gemma's multiplies its table by the square root of the hidden size.
        _set(encoder.get_parameter("embedding.weight"), base_model.get_input_embeddings()(chosen))
    elif train.initialisation == "text" and train.method == "prefix_tuning":
        # PEFT cuts, but does not repeat. Where the texts meet tokens may merge, so that more of them are needed.
        encode = partial(tokenizer.__call__, add_special_tokens=False)
        repeats = train.num_virtual_tokens // len(ids) + 2
        while len(encode(text := " ".join([train.init_text or ""] * repeats))["input_ids"]) < train.num_virtual_tokens:
            repeats *= 2
        try:
            initialize_kv_prefix_from_text(model, encode, text=text, use_chat_template=False)
        except (AttributeError, ValueError) as error:
            # Gemma 3n's last layers have none, Gemma 4's have two shapes.
            others = " or ".join(name for name in INITS[train.method] if name != "text")
            raise InputError(
                "train.init: text: PEFT takes a text's keys and values where each layer keeps its own, all of one "
                f"shape, and this {base_model.config.model_type} model has other layers; allowed: {others}"
            ) from error
    return model


def _with_prompt(base_model: PreTrainedModel, config: PeftConfig) -> SharedPrefixModel:
    """`base_model` with a prompt as PEFT makes it.

    Raises:
        InputError: if PEFT's keys and values don't fit into the model's layers, which a trial tells.
    """
    if config.peft_type != PeftType.PREFIX_TUNING:
        return SharedPrefixModel(base_model, config)
    try:
        model = SharedPrefixModel(base_model, config)
        with torch.no_grad():
            model.token_losses([{"input_ids": [0, 0], "labels": [IGNORED, 0]}])
    except Exception as error:  # an architecture may refuse in any way: all of them mean "no"
        others = "another model" if looks_up_ids(base_model) else "prompt_tuning or p_tuning"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            "train.method: prefix_tuning: the keys and values that PEFT makes don't fit into the layers of this "
            f"{base_model.config.model_type} model ({reason}); allowed: {others}"
        ) from error
    return model


def _draw(encoder: nn.Module, generator: np.random.Generator) -> None:
    """The distributions that torch's modules have: standard normal embeddings, uniform layers of 1/sqrt(inputs)."""
    for module in encoder.modules():
        if isinstance(module, nn.Embedding):
            drawn = generator.standard_normal(tuple(module.weight.shape), dtype=np.float32)
            _set(module.weight, torch.from_numpy(drawn))
        elif isinstance(module, nn.Linear | nn.LSTM):
            bound = (module.hidden_size if isinstance(module, nn.LSTM) else module.in_features) ** -0.5
            for parameter in module.parameters():
                drawn = generator.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
                _set(parameter, torch.from_numpy(drawn))


@torch.no_grad()
def _set(parameter: torch.Tensor, values: torch.Tensor) -> None:
    parameter.copy_(values)


def _say_how_text_fits(length: int, wanted: int) -> None:
    """The text is truncated or repeated, and PEFT does so silently."""
    if length > wanted:
        print(
            f"warning: train.init_text has {length} tokens, train.num_virtual_tokens is {wanted}: it is truncated",
            file=sys.stderr,
        )
    elif length < wanted:
        print(f"train: init_text has {length} tokens; it is repeated to fill {wanted} virtual tokens")
