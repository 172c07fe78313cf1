"""A real GGUF file, written with the format's reference implementation."""

import json
from pathlib import Path

import gguf
import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


def write_gguf(
    folder: Path, target_file: Path, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Write the toy model of `folder` as a Qwen2, its matrices in `kind`, with zero biases; return what was written."""
    # One block of Q8_0 is 32 values; rows are multiples of it.
    model = AutoModelForCausalLM.from_pretrained(folder)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config, tokenizer = model.config, AutoTokenizer.from_pretrained(folder)
    writer = gguf.GGUFWriter(str(target_file), "qwen2")
    writer.add_block_count(2)
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in tokenizer.all_special_tokens else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, 2)
    for name, weight in weights.items():
        target = names.get_name(name.removesuffix(".weight"))
        if target is None or name.startswith("lm_head"):
            continue
        if weight.ndim == 2:
            writer.add_tensor(f"{target}.weight", gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{target}.weight", weight)
    for layer in range(2):
        for part, size in (("q", 32), ("k", 16), ("v", 16)):
            writer.add_tensor(f"blk.{layer}.attn_{part}.bias", np.zeros(size, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model, tokenizer
