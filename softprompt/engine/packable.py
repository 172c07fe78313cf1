"""Whether rows can be packed in a model exactly: known obstacles by name, and a trial for all others."""

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from softprompt.data.tokens import IGNORED
from softprompt.engine.losses import head_logits
from softprompt.engine.packed import arrange, last_states
from softprompt.engine.packing import pack
from softprompt.engine.prefix import run_prefix
from softprompt.engine.sharing import LOW_PRECISION, TOLERANCE, layer_obstacle, steady_lengths, windows_of


def packing_obstacle(model: PreTrainedModel, *, trained: bool) -> str | None:
    """Why rows can't be packed in `model`, in a few words; None where they can.

    Args:
        model: a causal language model.
        trained: whether the prompt is keys and values.
    """
    if found := layer_obstacle(model):
        return found
    if changing := steady_lengths(model):
        return f"its rotary embeddings ({min(changing)}) change with the longest row of a batch"
    return _trial(model, windows_of(model), trained=trained)


@torch.no_grad()
def _trial(model: PreTrainedModel, windows: dict[int, int | None], *, trained: bool) -> str | None:
    """Compare two packed rows, which begin alike, with the model's plain forward of each."""
    training, verbosity = model.training, logging.get_verbosity()
    model.eval()
    logging.set_verbosity_error()  # what transformers would say is what we say
    rows, common = [[0, 1, 2, 3, 4], [0, 1, 4, 2]], 2
    try:
        plain = torch.cat([model(input_ids=torch.tensor([row], device=model.device)).logits[0, :-1] for row in rows])
        prompt = None
        if trained:
            beginning = torch.tensor(rows[0][:common], device=model.device)
            prompt = run_prefix(model, None, beginning)
            rows = [row[common:] for row in rows]
        packed = pack([{"input_ids": row, "labels": [IGNORED] * len(row)} for row in rows])
        arranged = arrange(packed, prompt, model.device)
        found: dict[int, int | None] = {}
        arranged.layout.windows = found
        states = last_states(model, prompt, arranged)
        logits = head_logits(model, states[: len(packed.tokens)])
    except Exception as error:  # an architecture may refuse in any way: all of them mean "no"
        return f"its packed forward fails ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    finally:
        model.train(training)
        logging.set_verbosity(verbosity)
    if set(found) != set(windows):
        return "its attention doesn't go through transformers' AttentionInterface"
    if found != windows:
        return "its attention layers don't say which part of a row they see"
    # The packed row has the beginning once, or not at all, and no row's last token.
    kept = [2, 3, 6] if trained else [0, 1, 2, 3, 6]
    plain = plain[kept].to(logits.device)
    distance = float((plain - logits).abs().max() / plain.abs().max())
    if not distance <= TOLERANCE.get(plain.dtype, LOW_PRECISION):
        return f"its packed forward differs from its plain one (by {distance:.1g} of the largest logit)"
    return None
