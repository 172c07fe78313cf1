"""A new soft prompt on a frozen model."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from peft import PeftConfig, PeftType, PromptTuningConfig
from peft.tuners.cartridge.utils import initialize_kv_prefix_from_past_key_values
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from softprompt.config.train import INITS, Train
from softprompt.data.tokens import IGNORED, beginning_ids, check_embedded, embedded_ids
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.prefix import run_prefix
from softprompt.engine.sharing import keeps_state, looks_up_ids, windows_of
from softprompt.runtime.errors import InputError
from softprompt.training.drawing import draw, draw_lora, put
from softprompt.training.methods import METHODS
from softprompt.training.parametrisation import parametrise


def new_soft_prompt(
    base_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    base: Path,
    train: Train,
    *,
    seed: int,
    demonstrations: Sequence[int] = (),
) -> SharedPrefixModel:
    """`base_model`, frozen, with a freshly initialised prompt in float32, or with LoRA's layers.

    PEFT owns the modules and the initialisation from text; what is random is drawn with numpy, whose streams are the
    same on every CPU (torch's `randn` differs between instruction sets).

    Args:
        base_model: it.
        tokenizer: the model's.
        base: the model's folder.
        train: the section.
        seed: of what is drawn.
        demonstrations: with `init: demonstrations`, the tokens that the prompt begins as, one virtual token each.

    Raises:
        InputError: if the model can't be tuned by the method, or begin as `train.init` says.
    """
    if train.method in ("prompt_tuning", "p_tuning") and looks_up_ids(base_model):
        remedy = "another model" if keeps_state(base_model) else "prefix_tuning (train.init: random or zero) or lora"
        raise InputError(
            f"train.method: {train.method}: the layers of this {base_model.config.model_type} model look up token ids, "
            f"which virtual tokens don't have; allowed: {remedy}"
        )
    if demonstrations:
        train = train.model_copy(update={"num_virtual_tokens": len(demonstrations)})
    config = METHODS[train.method].config(train, base, base_model.config)
    if train.initialisation == "text":
        ids = tokenizer(train.init_text, add_special_tokens=False)["input_ids"]
        check_embedded(ids, tokenizer, base_model.config, "train.init_text")
        _say_how_text_fits(len(ids), train.virtual_tokens)
        if beginning_ids(tokenizer) and isinstance(config, PromptTuningConfig):
            # The rows have it. PEFT encodes the text as its own tokenizer does by default, and again where it repeats.
            config.tokenizer_kwargs = {"add_bos_token": False}
    # PEFT draws too, in vain but for `text`; fork_rng keeps that out of the global generator.
    with torch.random.fork_rng():
        model = _with_prompt(base_model, config)
    generator = np.random.default_rng(seed)
    if train.method == "lora":
        draw_lora(model, generator)
        return model
    encoder = model.get_submodule("prompt_encoder.default")
    if train.initialisation == "random":
        draw(encoder, generator)
    elif train.initialisation == "vocabulary":
        # Special tokens mean something else.
        ids = np.setdiff1d(embedded_ids(tokenizer, base_model.config), tokenizer.all_special_ids)
        wanted = train.virtual_tokens
        chosen = torch.from_numpy(generator.choice(ids, wanted, replace=len(ids) < wanted)).to(base_model.device)
        # As the layer puts them out: Gemma's multiplies its table by the square root of the hidden size.
        put(encoder.get_parameter("embedding.weight"), base_model.get_input_embeddings()(chosen))
    elif train.initialisation == "demonstrations" and train.method == "prompt_tuning":
        shown = torch.tensor(demonstrations, device=base_model.device)
        put(encoder.get_parameter("embedding.weight"), base_model.get_input_embeddings()(shown))
    elif train.initialisation in ("text", "demonstrations") and train.method == "prefix_tuning":
        _begin_as_keys_and_values(model, tokenizer, train, demonstrations)
    parametrise(model, train, generator)
    return model


def _begin_as_keys_and_values(
    model: SharedPrefixModel, tokenizer: PreTrainedTokenizerBase, train: Train, demonstrations: Sequence[int]
) -> None:
    """Set the prefix to the keys and values of the demonstrations, or of `train.init_text`.

    Raises:
        InputError: if PEFT's prefix can't hold those of the model.
    """
    if train.initialisation == "demonstrations" and not demonstrations:
        raise ValueError("init: demonstrations needs the tokens of some")
    ids, text = list(demonstrations), train.init_text or ""
    while len(ids) < train.virtual_tokens:  # where two texts meet tokens may merge: how many there are is seen
        ids, text = tokenizer(text, add_special_tokens=False)["input_ids"], f"{text} {text}"
    ids = ids[: train.virtual_tokens]
    windows = [window for window in windows_of(model.frozen).values() if window is not None]
    if windows and min(windows) <= len(ids):
        raise InputError(
            f"train.num_virtual_tokens: of {len(ids)} tokens layers with a sliding window of {min(windows)} don't keep "
            f"all keys and values; allowed: up to {min(windows) - 1}, or train.init: random or zero"
        )
    try:
        with torch.no_grad():
            cache = run_prefix(model.frozen, None, torch.tensor(ids, device=model.device))
        initialize_kv_prefix_from_past_key_values(model, past_key_values=cache)
    except (AttributeError, ValueError) as error:
        # Gemma 3n's last layers have none, Gemma 4's have two shapes.
        others = " or ".join(name for name in INITS[train.method] if name not in ("text", "demonstrations"))
        raise InputError(
            f"train.init: {train.initialisation}: PEFT takes a text's keys and values where each layer keeps its own, "
            f"all of one shape, and this {model.frozen.config.model_type} model has other layers; allowed: {others}"
        ) from error


def _with_prompt(base_model: PreTrainedModel, config: PeftConfig) -> SharedPrefixModel:
    """`base_model` with a prompt, or with LoRA's layers, as PEFT makes them.

    Raises:
        InputError: if PEFT's keys and values, or layers, don't fit into the model's, which a trial tells.
    """
    what = {PeftType.PREFIX_TUNING: "keys and values", PeftType.LORA: "layers"}
    kind = PeftType(config.peft_type)
    if kind not in what:
        return SharedPrefixModel(base_model, config)
    try:
        model = SharedPrefixModel(base_model, config)
        with torch.no_grad():
            model.token_losses([{"input_ids": [0, 0], "labels": [IGNORED, 0]}])
    except Exception as error:  # an architecture may refuse in any way: all of them mean "no"
        others = [name for name in ("prompt_tuning", "p_tuning", "lora") if name != kind.lower()]
        allowed = "another model" if looks_up_ids(base_model) else f"{', '.join(others[:-1])} or {others[-1]}"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"train.method: {kind.lower()}: the {what[kind]} that PEFT makes don't fit into the layers of this "
            f"{base_model.config.model_type} model ({reason}); allowed: {allowed}"
        ) from error
    return model


def _say_how_text_fits(length: int, wanted: int) -> None:
    """The text is truncated or repeated, and PEFT does so silently."""
    if length > wanted:
        print(
            f"warning: train.init_text has {length} tokens, train.num_virtual_tokens is {wanted}: it is truncated",
            file=sys.stderr,
        )
    elif length < wanted:
        print(f"train: init_text has {length} tokens; it is repeated to fill {wanted} virtual tokens")
