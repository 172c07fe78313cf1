"""What a model's configuration says of its context and its embeddings."""

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    BloomConfig,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MptConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3_5Config,
)

from softprompt.data.tokens import check_embedded, context_of, embedded_ids
from softprompt.runtime.errors import InputError


@pytest.mark.parametrize(
    ("config", "context"),
    [
        (LlamaConfig(max_position_embeddings=96), 96),
        (GPT2Config(n_positions=97), 97),
        (GPTNeoXConfig(max_position_embeddings=98), 98),
        (MptConfig(max_seq_len=99), 99),
        (Gemma3Config(text_config={"max_position_embeddings": 100}), 100),
        (Qwen3_5Config(text_config={"max_position_embeddings": 101}), 101),
        (BloomConfig(), None),
        (MambaConfig(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PretrainedConfig) else str(value),
)
def test_the_context_by_whatever_name(config: PretrainedConfig, context: int | None) -> None:
    assert context_of(config) == context


def tokenizer_of(*words: str) -> PreTrainedTokenizerFast:
    """Two letters, a gap among the ids, and from 4 on `words`."""
    known = {"a": 0, "b": 1} | {word: 4 + number for number, word in enumerate(words)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(known, unk_token="a")))


@pytest.mark.parametrize(
    "config",
    [LlamaConfig(vocab_size=6), GPT2Config(vocab_size=6), Gemma3Config(text_config={"vocab_size": 6})],
    ids=lambda config: type(config).__name__,
)
def test_tokens_that_have_an_embedding(config: PretrainedConfig) -> None:
    tokenizer = tokenizer_of("c", "d", "<picture>")
    assert embedded_ids(tokenizer, config) == [0, 1, 4, 5]
    check_embedded([0, 5], tokenizer, config, "a text")
    check_embedded([], tokenizer, config, "a text")
    with pytest.raises(InputError, match=r"^a text: the token '<picture>' has id 6, but the model's 6 embeddings end"):
        check_embedded([0, 6, 1], tokenizer, config, "a text")
