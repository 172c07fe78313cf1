"""The two sides' models: PEFT's own, and the pipeline's."""

from pathlib import Path
from typing import Literal

import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchmarks.memory import touch
from softprompt.config import Params, load_params
from softprompt.engine.model import SharedPrefixModel
from softprompt.training.base import load_base_model

# The baseline; the baseline with our matrix products, under torch.compile, and with length-grouped batches; ours by the
# pipeline's defaults, and with `cpu_matmul: auto` and `train.torch_compile: true`.
Side = Literal["peft", "peft, our products", "peft, compiled", "peft, length-grouped", "ours", "ours, fastest"]


def benchmark_params(dtype: str = "float32") -> Params:
    """params.yaml, on a CPU in one precision: there both sides do the same arithmetic."""
    params = load_params()
    return params.model_copy(update={"device": "cpu", "model": params.model.model_copy(update={"dtype": dtype})})


def soft_prompt_model(side: Side, folder: str, virtual_tokens: int) -> PeftModel:
    """The model in `folder` behind a random soft prompt, loaded as the side's users load it; all of it resident."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual_tokens)
    params = benchmark_params()
    if side == "ours, fastest":
        params = params.model_copy(update={"cpu_matmul": "auto"})
    if side in ("ours", "ours, fastest", "peft, our products"):
        base = load_base_model(Path(folder), params)
    else:
        torch.set_num_threads(params.threads)
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)  # the same prompt on all sides
    model = SharedPrefixModel(base, config) if side.startswith("ours") else get_peft_model(base, config)
    touch(model)
    return model


def qwen_config() -> Qwen2Config:
    """Qwen2.5-0.5B's architecture, by its config.json on the hub."""
    return Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
    )


def write_qwen(folder: Path) -> None:
    """A model of that architecture with random weights."""
    torch.manual_seed(0)
    Qwen2ForCausalLM(qwen_config()).save_pretrained(folder)
