"""What a tokenized row is, from tokenize to train and evaluate."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from softprompt.runtime.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

IGNORED = -100  # label of a token that is no part of the loss, as in torch and transformers

Row = dict[str, list[int]]  # input_ids and labels

TOKENIZED_SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("example_id", pa.string()),
        ("question_id", pa.string()),
    ]
)


def context_of(config: "PretrainedConfig") -> int | None:
    """Tokens that a model of `config` takes at most; None where its architecture sets no limit."""
    text = config.get_text_config()
    # GPT-2's n_positions and the like are mapped to the usual name, MPT's is not.
    return getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)


def beginning_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """What `tokenizer` puts in front of every text, as the model knows it: a BOS, or nothing."""
    alone, text = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    starts = range(len(alone) - len(text) + 1)
    return alone[: next((start for start in starts if alone[start : start + len(text)] == text), 0)]


def embedded_ids(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig") -> list[int]:
    """Ids of the tokens of `tokenizer` that a model of `config` has an embedding of, in order.

    Embedding tables are often padded, and some tokenizers have a token more (Gemma 3's of an image, without images).
    """
    embeddings = config.get_text_config().vocab_size
    return sorted({token for token in tokenizer.get_vocab().values() if token < embeddings})


def check_embedded(
    ids: Iterable[int], tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", what: str
) -> None:
    """Refuse tokens that a model of `config` has no embedding of.

    Args:
        ids: tokens of `what`.
        tokenizer: the model's.
        config: the model's.
        what: where the tokens are from: a parameter, or a row.

    Raises:
        InputError: naming the token.
    """
    last, embeddings = max(ids, default=-1), config.get_text_config().vocab_size
    if last >= embeddings:
        raise InputError(
            f"{what}: the token {tokenizer.convert_ids_to_tokens(last)!r} has id {last}, but the model's {embeddings} "
            f"embeddings end with id {embeddings - 1}; allowed: text without this token"
        )
