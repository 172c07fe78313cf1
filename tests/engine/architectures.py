"""Tiny random models of many architectures, prompt methods, and the two sides that the tests compare."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import transformers
from peft import PeftConfig, PeftModelForCausalLM, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from transformers import Phi3Config, Phi3ForCausalLM, PreTrainedModel

from softprompt.engine.model import SharedPrefixModel

VOCABULARY = 101
VIRTUAL_TOKENS = 5
WINDOW = 12
SPREAD = 0.2  # of the weights; with transformers' 0.02, attention is uniform and every loss is log(vocabulary)
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": None,  # rows end where a test says so
    "pad_token_id": 0,
}
USUAL = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": SPREAD}
WINDOWED = {
    **USUAL,
    "head_dim": 8,
    "sliding_window": WINDOW,
    "num_hidden_layers": 3,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
# The default, torch's grouped product, has no float64.
EXPERTS = {"num_experts_per_tok": 2, "experts_implementation": "eager"}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {  # config, model, settings
    "llama": ("LlamaConfig", "LlamaForCausalLM", {**USUAL, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", USUAL),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {**SIZES, "initializer_range": SPREAD}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**WINDOWED, "final_logit_softcapping": 2.0}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", {**WINDOWED, "final_logit_softcapping": 2.0}),
    "mistral": ("MistralConfig", "MistralForCausalLM", {**USUAL, "sliding_window": WINDOW}),
    "gpt_neo": (  # a window that its cache doesn't know of
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        {
            **SIZES,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
            "initializer_range": SPREAD,
        },
    ),
    "gpt_neox": (
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        {**SIZES, "intermediate_size": 48, "initializer_range": SPREAD},
    ),
    "granite": ("GraniteConfig", "GraniteForCausalLM", {**USUAL, "logits_scaling": 8.0, "embedding_multiplier": 2.0}),
    "olmo": ("OlmoConfig", "OlmoForCausalLM", {**USUAL, "clip_qkv": 0.5}),
    "olmo2": ("Olmo2Config", "Olmo2ForCausalLM", USUAL),
    "cohere": ("CohereConfig", "CohereForCausalLM", {**USUAL, "logit_scale": 0.5, "use_qk_norm": True}),
    "cohere2": ("Cohere2Config", "Cohere2ForCausalLM", WINDOWED),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        "Qwen3MoeForCausalLM",
        {**USUAL, **EXPERTS, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 24},
    ),
    "gpt_oss": (  # sinks in every layer
        "GptOssConfig",
        "GptOssForCausalLM",
        {
            **WINDOWED,
            **EXPERTS,
            "num_local_experts": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
    ),
    "opt": ("OPTConfig", "OPTForCausalLM", {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": SPREAD}),
}
UNPACKED = {"gpt_neo": "its attention doesn't go through transformers' AttentionInterface"}
METHODS: dict[str, Callable[..., PeftConfig]] = {
    "prompt_tuning": PromptTuningConfig,
    "p_tuning_mlp": lambda **sizes: PromptEncoderConfig(encoder_hidden_size=16, **sizes),
    "p_tuning_lstm": lambda **sizes: PromptEncoderConfig(
        encoder_hidden_size=16, encoder_reparameterization_type="LSTM", **sizes
    ),
    "prefix_tuning": PrefixTuningConfig,
    "prefix_tuning_projected": lambda **sizes: PrefixTuningConfig(
        encoder_hidden_size=16, prefix_projection=True, **sizes
    ),
}


def make_base(architecture: str, dtype: torch.dtype = torch.float64, **changes: Any) -> PreTrainedModel:
    """A random model, the same one at every call; `changes` are of its config."""
    config, model, settings = ARCHITECTURES[architecture]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, model)(getattr(transformers, config)(**{**settings, **changes})).to(dtype).eval()


def make_config(method: str) -> PeftConfig:
    return METHODS[method](task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL_TOKENS)


def with_prompt(cls: type[PeftModelForCausalLM], base: PreTrainedModel, method: str, seed: int = 0) -> Any:
    """`base` as a model of `cls` behind a random prompt, the same one for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = cls(base, make_config(method))
    # Under a low-precision base the prompt is float32, under float64 all is.
    return model.double() if base.dtype == torch.float64 else model


def make_pair(architecture: str, method: str, **changes: Any) -> tuple[SharedPrefixModel, PeftModelForCausalLM]:
    """Ours, and plain PEFT's with a base model and a prompt of its own, all numbers being the same."""
    base = make_base(architecture, **changes)
    peft = with_prompt(PeftModelForCausalLM, copy.deepcopy(base), method).eval()
    return with_prompt(SharedPrefixModel, base, method), peft


def longrope(limit: int = 64) -> Phi3ForCausalLM:
    factors = {
        "short_factor": [1.0] * 4,
        "long_factor": [3.0, 4.0, 5.0, 6.0],
        "original_max_position_embeddings": limit,
    }
    rope = {"rope_type": "longrope", "rope_theta": 1e4, **factors}
    return Phi3ForCausalLM(Phi3Config(**USUAL, rope_parameters=rope, original_max_position_embeddings=limit))
