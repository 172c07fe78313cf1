"""What a tokenized row is, from tokenize to train and evaluate."""

import pyarrow as pa

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
