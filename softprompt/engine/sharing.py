"""Whether a model's prefix can be shared exactly: known obstacles by name, and a trial for all others."""

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from softprompt.engine.losses import head_logits
from softprompt.engine.prefix import expanded, run_prefix

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
    if getattr(model, "_is_stateful", False):  # transformers has no public name for it
        return "it keeps a recurrent state, not keys and values"
    layers = DynamicCache(config=model.config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        return "some of its layers keep something other than keys and values"
    return None


def looks_up_ids(model: PreTrainedModel) -> bool:
    """Whether the layers of `model` look up token ids, which virtual tokens don't have: Gemma 3n's and Gemma 4's do."""
    return bool(getattr(model.config.get_text_config(), "hidden_size_per_layer_input", 0))


def windows_of(model: PreTrainedModel) -> dict[int, int | None]:
    """The window of attention of each layer, by its index; None: it sees everything."""
    layers = DynamicCache(config=model.config).layers
    return {at: getattr(layer, "sliding_window", None) for at, layer in enumerate(layers)}


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
