"""What virtual tokens lie near to among the vocabulary's embeddings.

Such readings can mislead: a prompt can be pulled to almost any text and work as well (Khashabi et al. 2022,
arXiv:2112.08348).
"""

from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from softprompt.data.tokens import embedded_ids
from softprompt.engine.model import SharedPrefixModel

NEAREST = 5


@torch.inference_mode()
def describe_virtual_tokens(model: SharedPrefixModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Norm and nearest tokens (by cosine) of each virtual token, and percentiles of the vocabulary's norms.

    Of a prompt that is keys and values, which has no place among embeddings, there are none.
    """
    prompt = model.prompt()
    if not isinstance(prompt, torch.Tensor):
        return {"tokens": []}
    # Only what belongs to a token is compared, and as the layer puts it out: Gemma's scales its table.
    known = torch.tensor(embedded_ids(tokenizer, model.frozen.config), device=model.device)
    table = model.frozen.get_input_embeddings()(known).float()
    vectors = prompt[0].float()
    norms = table.norm(dim=1)
    cosines = vectors @ table.T / (vectors.norm(dim=1, keepdim=True) * norms).clamp_min(1e-12)
    nearest = cosines.topk(min(NEAREST, len(table)), dim=1)
    ids_of_nearest = known[nearest.indices].tolist()
    percentiles = norms.quantile(torch.tensor([0.05, 0.5, 0.95], device=norms.device)).tolist()
    return {
        "norm_of_vocabulary": dict(zip(("p5", "p50", "p95"), percentiles, strict=True)),
        "tokens": [
            {
                "position": position,
                "norm": float(vector.norm()),
                "nearest": [
                    {"token": str(tokenizer.decode([token])), "cosine": cosine}
                    for token, cosine in zip(ids, values, strict=True)
                ],
            }
            for position, (vector, ids, values) in enumerate(
                zip(vectors, ids_of_nearest, nearest.values.tolist(), strict=True)
            )
        ],
    }
