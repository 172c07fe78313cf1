"""Blocks of out-of-domain text, and what the virtual tokens lie near to."""

from pathlib import Path

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedTokenizerBase

from softprompt.config.general import General
from softprompt.data.tokens import IGNORED
from softprompt.engine.model import SharedPrefixModel
from softprompt.evaluation.regression import text_blocks
from softprompt.evaluation.virtual_tokens import describe_virtual_tokens
from softprompt.runtime.errors import InputError
from tests.gemma import save_gemma

CONFIG = LlamaConfig(vocab_size=357)  # the toy's
TEXTS = ["The sea was calm. " * 30, "short", "A bell rang in the fog. " * 20]


@pytest.fixture
def tokenizer(toy_model: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(toy_model)


def general(blocks: int, block_tokens: int = 16) -> General:
    return General(source="x", revision=None, sha256=None, column="text", blocks=blocks, block_tokens=block_tokens)


def test_blocks_are_pieces_of_the_texts_with_a_label_on_all_but_the_first(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    every = sum(len(text) // 16 for text in ids)
    blocks = text_blocks(TEXTS, tokenizer, CONFIG, general(every))
    assert len(blocks) == every
    for of_text, rows in blocks.groupby("question_id"):
        assert [token for block in rows["input_ids"] for token in block] == ids[int(of_text)][: 16 * len(rows)]
    for row in blocks.to_dict("records"):
        assert row["labels"] == [IGNORED, *row["input_ids"][1:]]


def test_fewer_blocks_are_some_of_them(tokenizer: PreTrainedTokenizerBase) -> None:
    more, fewer = text_blocks(TEXTS, tokenizer, CONFIG, general(8)), text_blocks(TEXTS, tokenizer, CONFIG, general(5))
    assert len(fewer) == 5
    assert {str(ids) for ids in fewer["input_ids"]} <= {str(ids) for ids in more["input_ids"]}


def test_as_many_blocks_as_there_are_and_none(tokenizer: PreTrainedTokenizerBase) -> None:
    every = sum(len(ids) // 16 for ids in tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    assert len(text_blocks(TEXTS, tokenizer, CONFIG, general(1000))) == every
    with pytest.raises(InputError, match=r"general.block_tokens: no text of general.source has 5000 tokens"):
        text_blocks(TEXTS, tokenizer, CONFIG, general(1, 5000))


def test_virtual_tokens_that_are_embeddings_are_nearest_to_themselves(
    toy_model: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    model = SharedPrefixModel(
        AutoModelForCausalLM.from_pretrained(toy_model), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    )
    table = model.frozen.get_input_embeddings().weight
    with torch.no_grad():
        model.get_submodule("prompt_encoder.default").embedding.weight.copy_(2 * table[[5, 77, 300]])
    described = describe_virtual_tokens(model, tokenizer)
    for token, row in zip((5, 77, 300), described["tokens"], strict=True):
        assert row["nearest"][0] == {"token": tokenizer.decode([token]), "cosine": pytest.approx(1, abs=1e-5)}
        assert row["norm"] == pytest.approx(2 * table[token].norm().item(), rel=1e-5)
        cosines = [near["cosine"] for near in row["nearest"]]
        assert cosines == sorted(cosines, reverse=True)
    norms = table[: len(tokenizer)].norm(dim=1)
    assert described["norm_of_vocabulary"]["p50"] == pytest.approx(norms.median().item(), rel=1e-2)


def test_norms_and_neighbours_are_at_the_scale_of_the_layer(toy_model: Path, tmp_path: Path) -> None:
    """Gemma's embedding layer multiplies its table by the square root of the hidden size."""
    folder = save_gemma(tmp_path, toy_model, "gemma3", hidden_size=64)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    model = SharedPrefixModel(AutoModelForCausalLM.from_pretrained(folder), config)
    table = model.frozen.get_input_embeddings().weight * 8
    with torch.no_grad():
        model.get_submodule("prompt_encoder.default").embedding.weight.copy_(table[[5, 300]])
    described = describe_virtual_tokens(model, tokenizer)
    for token, row in zip((5, 300), described["tokens"], strict=True):
        assert row["nearest"][0]["token"] == tokenizer.decode([token])
        assert row["norm"] == pytest.approx(table[token].norm().item(), rel=1e-5)
    norms = table.norm(dim=1)
    assert described["norm_of_vocabulary"]["p50"] == pytest.approx(norms.median().item(), rel=1e-2)


def test_tokens_without_an_embedding_are_no_neighbours(toy_model: Path, tmp_path: Path) -> None:
    folder = save_gemma(tmp_path, toy_model, "gemma3", vocab_size=200)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    model = SharedPrefixModel(AutoModelForCausalLM.from_pretrained(folder), config)
    described = describe_virtual_tokens(model, AutoTokenizer.from_pretrained(folder))
    assert all(len(row["nearest"]) == 5 for row in described["tokens"])


def test_keys_and_values_have_no_place_among_embeddings(toy_model: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = SharedPrefixModel(AutoModelForCausalLM.from_pretrained(toy_model), config)
    assert describe_virtual_tokens(model, tokenizer) == {"tokens": []}
