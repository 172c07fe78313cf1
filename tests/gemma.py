"""Small random Gemma models: their embedding layer scales, and the layers of some look up token ids."""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    PreTrainedModel,
)

SIZES = {
    "vocab_size": 101,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "sliding_window": 256,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "initializer_range": 0.1,
}
IDS = {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
PICTURES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
PICTURES |= {"image_size": 28, "patch_size": 14}
# The last two layers have no keys and values of their own, as in Gemma 3n and in the small ones of Gemma 4.
PER_LAYER = {"hidden_size_per_layer_input": 16, "num_kv_shared_layers": 2}
KINDS = ("gemma3", "gemma3_with_pictures", "gemma3n", "gemma4")


def make_gemma(kind: str, **changes: Any) -> PreTrainedModel:
    """A random model of `kind`, one of `KINDS`, the same one at every call; `changes` are of its text's config."""
    settings = {**SIZES, **IDS, **changes}
    per_layer = {**settings, **PER_LAYER, "vocab_size_per_layer_input": settings["vocab_size"], **changes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "gemma3":
            return Gemma3ForCausalLM(Gemma3TextConfig(**settings)).eval()
        if kind == "gemma3_with_pictures":
            pictures = {"mm_tokens_per_image": 4, "vision_config": PICTURES}
            return Gemma3ForConditionalGeneration(Gemma3Config(text_config=settings, **pictures, **IDS)).eval()
        if kind == "gemma4":
            return Gemma4ForCausalLM(Gemma4TextConfig(**per_layer)).eval()
        sparse = {
            "activation_sparsity_pattern": [0.0] * SIZES["num_hidden_layers"],
            "laurel_rank": 8,
            "altup_num_inputs": 2,
        }
        model = Gemma3nForCausalLM(Gemma3nTextConfig(**per_layer, **sparse)).eval()
        for name, weight in model.named_parameters():
            if name.endswith("altup.correct_output_scale"):  # it begins as zero, and nothing looked up gets through
                torch.nn.init.ones_(weight)
    return model


def save_gemma(folder: Path, toy_model: Path, kind: str, **changes: Any) -> Path:
    """`make_gemma` in `folder`, with the toy's tokenizer and an embedding of each of its tokens."""
    shutil.copytree(toy_model, folder, dirs_exist_ok=True)
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    make_gemma(kind, **{"vocab_size": vocabulary, **changes}).save_pretrained(folder)
    return folder
