"""Whether a model's prefix can be shared exactly: known obstacles by name, and a trial for all others."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from softprompt.engine.losses import head_logits
from softprompt.engine.prefix import Prompt, expanded, run_prefix

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of the largest logit; what is wrong is wrong by far more
LOW_PRECISION = 5e-2


def obstacle(model: PreTrainedModel, virtual_tokens: int) -> str | None:
    """Why rows can't share a prefix of `virtual_tokens` in `model`, in a few words; None where they can."""
    if found := layer_obstacle(model):
        return found
    windows = [window for window in windows_of(model).values() if window is not None]
    if windows and min(windows) <= virtual_tokens:
        return f"its sliding window of {min(windows)} tokens is no longer than the prompt"
    return _trial(model)


def layer_obstacle(model: PreTrainedModel) -> str | None:
    """What of the layers of `model` is in the way of sharing, in a few words; None where nothing is."""
    if looks_up_ids(model):
        return "its layers look up token ids, not embeddings alone"
    if keeps_state(model):
        return "it keeps a recurrent state, not keys and values"
    layers = DynamicCache(config=model.config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return "some of its layers keep something other than keys and values"
    return None


def keeps_state(model: PreTrainedModel) -> bool:
    """Whether `model` keeps more of what it has read than keys and values."""
    return bool(getattr(model, "_is_stateful", False))  # transformers has no public name for it


def looks_up_ids(model: PreTrainedModel) -> bool:
    """Whether layers of `model` look up token ids, which virtual tokens don't have.

    Those of Gemma 3n and Gemma 4 look up embeddings, the first of DeepSeek V4 the experts that a token goes to.
    """
    config = model.config.get_text_config()
    by_hash = "hash_moe" in (getattr(config, "mlp_layer_types", None) or ())
    return by_hash or bool(getattr(config, "hidden_size_per_layer_input", 0))


def gap_in(prompt: Prompt) -> str | None:
    """What a trained prefix lacks, in a few words: of Gemma 4's layers, PEFT leaves out those with larger keys."""
    layers = prompt.layers if isinstance(prompt, DynamicCache) else []
    if any(getattr(layer, "keys", None) is None for layer in layers):
        return "PEFT gives some of its layers no keys and values"
    return None


def windows_of(model: PreTrainedModel) -> dict[int, int | None]:
    """The window of attention of each layer, by its index; None: it sees everything."""
    layers = DynamicCache(config=model.config).layers
    return {at: getattr(layer, "sliding_window", None) for at, layer in enumerate(layers)}


def steady_lengths(model: PreTrainedModel) -> dict[str, int]:
    """Rotary embeddings of `model` that change with the longest position of a forward, by their type.

    Returns:
        The positions up to which they are the same, whatever the longest is.
    """
    config = model.config.get_text_config()
    limits: dict[str, int] = {}
    for rope in _rotary_parameters(config.to_dict()):
        if rope["rope_type"] == "dynamic":
            limits["dynamic"] = config.max_position_embeddings
        elif rope["rope_type"] == "longrope":
            limits["longrope"] = rope["original_max_position_embeddings"]
    return limits


def _rotary_parameters(config: Any) -> Iterator[dict[str, Any]]:
    """All parts of a configuration that have a `rope_type`: some have one for each type of layer."""
    if isinstance(config, dict):
        if isinstance(config.get("rope_type"), str):
            yield config
        for value in config.values():
            yield from _rotary_parameters(value)


@torch.no_grad()
def _trial(model: PreTrainedModel) -> str | None:
    """Compare three tokens conditioned on a shared prefix of two with the model's plain forward."""
    training = model.training
    model.eval()
    ids = torch.arange(5, device=model.device) % model.config.get_text_config().vocab_size
    try:
        plain = model(input_ids=ids.unsqueeze(0)).logits[0, 2:]
        behind = _logits_after_prefix(model, ids[:2], ids[2:])
    except Exception as error:  # an architecture may refuse in any way: all of them mean "no"
        return f"its cached forward fails ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    finally:
        model.train(training)
    distance = float((plain - behind).abs().max() / plain.abs().max())
    if not distance <= TOLERANCE.get(plain.dtype, LOW_PRECISION):
        return f"its cached forward differs from its plain one (by {distance:.1g} of the largest logit)"
    return None


def _logits_after_prefix(model: PreTrainedModel, preamble: Tensor, ids: Tensor) -> Tensor:
    """Logits of the second of two equal rows `ids` after a prefix that was run once: (length, vocabulary)."""
    prefix = run_prefix(model, None, preamble)
    rows = model.get_decoder()(input_ids=ids.expand(2, -1), past_key_values=expanded(prefix, 2), use_cache=True)
    return head_logits(model, rows.last_hidden_state[1])
