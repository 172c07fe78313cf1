"""Generation behind a shared prefix, by transformers' own `generate`."""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from stages.engine.prefix import Rows, run_prefix


def generate_behind(
    model: PreTrainedModel,
    prompt: Tensor | DynamicCache | None,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """Go on from `prompt` and the rows: `prompt` and their common preamble run once, with batch 1.

    `generate` gets their cache, expanded, and rows of placeholders, preamble, left padding and the rest; the mask hides
    the padding, and positions follow from the mask.

    Args:
        model: a causal language model.
        prompt: as `run_prefix`'s.
        input_ids: (rows, length), padded anywhere.
        attention_mask: (rows, length), 0 at padding; None: no padding.
        kwargs: of transformers' `generate`. Lengths count from the rows as given.

    Returns:
        What `generate` returns: sequences of (rows, length + new tokens), the first part as given.
    """
    count, length = input_ids.shape
    rows = Rows.of(input_ids, attention_mask, torch.full_like(input_ids, -100))
    common = rows.preamble_length()
    prefix = run_prefix(model, prompt, rows.input_ids[0, :common])
    config = kwargs.get("generation_config") or model.generation_config
    settings = {**{name: getattr(config, name) for name in ("num_beams", "num_return_sequences")}, **kwargs}
    sequences = settings["num_return_sequences"] or 1
    cache = prefix.expanded(count * max(settings["num_beams"] or 1, sequences))

    rest = rows.input_ids[:, common:]
    real = torch.arange(rest.shape[1], device=rest.device) < (rows.lengths - common).unsqueeze(1)
    order = real.to(torch.int8).argsort(dim=1, stable=True)  # padding to the left
    rest, real = rest.gather(1, order), real.gather(1, order)
    ahead = cache.get_seq_length() if cache is not None else 0
    # Virtual tokens have no ids. Padding in their place is what penalties on repeated tokens mind least.
    stand_in = rest.new_full((count, ahead - common), config.pad_token_id or 0)
    given = torch.cat([stand_in, rows.input_ids[:, :common], rest], dim=1)
    mask = torch.cat([real.new_ones(count, ahead), real], dim=1).long()
    for name in ("max_length", "min_length"):
        if name in kwargs:
            kwargs[name] += given.shape[1] - length
    output = cast(Any, model).generate(input_ids=given, attention_mask=mask, past_key_values=cache, **kwargs)
    answers = output if isinstance(output, Tensor) else output.sequences
    answers = torch.cat([input_ids.repeat_interleave(sequences, dim=0), answers[:, given.shape[1] :]], dim=1)
    if isinstance(output, Tensor):
        return answers
    output.sequences = answers
    return output
