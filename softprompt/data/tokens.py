"""What a tokenized row is, from tokenize to train and evaluate."""

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from transformers import PretrainedConfig

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
    return getattr(config.get_text_config(), "max_position_embeddings", None)
