"""A new soft prompt on a frozen model."""

import sys
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.params.train import Train
from stages.tuning.methods import METHODS


def new_soft_prompt(
    base_model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, base: Path, train: Train, seed: int
) -> PeftModel:
    """`base_model`, frozen, behind a freshly initialised prompt in float32.

    PEFT owns the module and the initialisation from text; what is random is drawn with numpy, whose streams are the
    same on every CPU (torch's `randn` differs between instruction sets).
    """
    if train.init == "text":
        _say_how_text_fits(tokenizer, train)
    # PEFT draws too, in vain but for `text`; fork_rng keeps that out of the global generator.
    with torch.random.fork_rng():
        model = get_peft_model(base_model, METHODS[train.method].config(train, base))
    weight: torch.Tensor = model.get_submodule("prompt_encoder.default.embedding").get_parameter("weight")
    generator = np.random.default_rng(seed)
    if train.init == "random":
        drawn = torch.from_numpy(generator.standard_normal(tuple(weight.shape), dtype=np.float32))
    elif train.init == "vocabulary":
        # Real tokens only: embedding tables are often padded, and special tokens mean something else.
        ids = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
        chosen = torch.from_numpy(generator.choice(ids, len(weight), replace=len(ids) < len(weight)))
        drawn = base_model.get_input_embeddings().get_parameter("weight")[chosen.to(base_model.device)].detach().float()
    else:
        return model
    with torch.no_grad():
        weight.copy_(drawn)
    return model


def _say_how_text_fits(tokenizer: PreTrainedTokenizerBase, train: Train) -> None:
    """PEFT cuts or repeats the text silently."""
    length, wanted = len(tokenizer(train.init_text)["input_ids"]), train.num_virtual_tokens
    if length > wanted:
        print(
            f"warning: train.init_text has {length} tokens, train.num_virtual_tokens is {wanted}: the text is cut",
            file=sys.stderr,
        )
    elif length < wanted:
        print(f"train: init_text has {length} tokens; it is repeated to fill {wanted} virtual tokens")
