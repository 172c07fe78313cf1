"""Qwen2.5-0.5B-Instruct scaled down: its configuration, its tokenizer's rules and its ChatML, with random weights."""

import json
from pathlib import Path
from typing import Any

import pytest

ALPACA = Path(__file__).parent.parent.parent / "shared/data/alpaca_zh_demo.json"
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
CHATML = (
    "{% if messages[0].role == 'system' %}{% set system, turns = messages[0].content, messages[1:] %}"
    "{% else %}{% set system, turns = '" + SYSTEM + "', messages %}{% endif %}"
    "{{ '<|im_start|>system\n' + system + '<|im_end|>\n' }}"
    "{% for turn in turns %}{{ '<|im_start|>' + turn.role + '\n' + turn.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As published in the model's config.json; the sizes are what is scaled down.
CONFIG: dict[str, Any] = {
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
SMALL = {
    "hidden_size": 56,  # 896
    "intermediate_size": 304,  # 4864
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,  # 24
}


def alpaca_rows() -> list[dict[str, str]]:
    """Real Chinese rows; a test that asks for them is skipped where they are absent."""
    if not ALPACA.exists():
        pytest.skip("shared/data/alpaca_zh_demo.json is not there")
    return json.loads(ALPACA.read_text(encoding="utf-8"))


def make_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE over `texts` with Qwen's normaliser and pre-tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer

    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.decoder = normalizers.NFC(), decoders.ByteLevel()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False))
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Qwen2Tokenizer(vocab=learned["vocab"], merges=merges, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    return tokenizer


def make_qwen(folder: Path, texts: list[str], shard: str = "5GB") -> Path:
    """Save model and tokenizer to `folder`, the weights in shards of at most `shard`."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = make_tokenizer(texts)
    ids = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **ids, **CONFIG, **SMALL)).bfloat16()
    model.save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    return folder
