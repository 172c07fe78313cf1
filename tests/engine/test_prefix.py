"""The rows of a batch, and where the prefix that they share ends."""

import pytest
import torch

from softprompt.engine.prefix import Rows, expanded, run_prefix
from tests.engine.architectures import WINDOW, make_base
from tests.engine.batches import PREAMBLES, UNLABELLED, Row, padded


def test_padding_goes_to_the_right_whatever_it_was() -> None:
    ids = torch.tensor([[9, 5, 6, 9, 7], [9, 9, 9, 8, 9], [9, 1, 2, 3, 4]])
    mask = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 1, 0], [0, 1, 1, 1, 1]])
    rows = Rows.of(ids, mask)
    assert rows.input_ids.tolist() == [[5, 6, 7, 0], [8, 0, 0, 0], [1, 2, 3, 4]]
    assert rows.lengths.tolist() == [3, 1, 4]


# Padding is not a token, though its id may be one.
@pytest.mark.parametrize(("rows", "length"), [*PREAMBLES, ([([0, 0, 0, 3], UNLABELLED), ([0, 0], UNLABELLED[:2])], 1)])
@pytest.mark.parametrize("side", ["left", "right"])
def test_where_the_preamble_ends(rows: list[Row], length: int, side: str) -> None:
    batch = padded(rows, side)
    assert Rows.of(batch["input_ids"], batch["attention_mask"]).preamble_length() == length


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_what_rows_append_stays_out_of_the_prefix(architecture: str) -> None:
    model = make_base(architecture).requires_grad_(False)
    length = 2 * WINDOW
    prefix = run_prefix(model, None, torch.arange(3, 3 + length))
    before = [(layer.keys.clone(), layer.values.clone()) for layer in prefix.layers]
    cache = expanded(prefix, 3)
    model.get_decoder()(input_ids=torch.full((3, 5), 7), past_key_values=cache, use_cache=True)
    assert cache.get_seq_length() == length + 5
    assert prefix.get_seq_length() == length
    assert prefix.layers[1].keys.shape[:3] == (1, 2, length)
    for layer, (keys, values) in zip(prefix.layers, before, strict=True):
        assert torch.equal(layer.keys, keys)
        assert torch.equal(layer.values, values)


def test_layers_with_a_window_keep_no_more_than_it() -> None:
    prefix = run_prefix(make_base("gemma3").requires_grad_(False), None, torch.arange(3, 3 + 2 * WINDOW))
    assert [layer.keys.shape[2] for layer in prefix.layers] == [WINDOW - 1, 2 * WINDOW, WINDOW - 1]


def test_expanding_copies_nothing() -> None:
    prefix = run_prefix(make_base("llama").requires_grad_(False), None, torch.arange(3, 9))
    cache = expanded(prefix, 1000)
    for mine, theirs in zip(prefix.layers, cache.layers, strict=True):
        assert theirs.keys.shape[0] == 1000
        assert theirs.keys.data_ptr() == mine.keys.data_ptr()
        assert theirs.values.data_ptr() == mine.values.data_ptr()


def test_nothing_before_the_rows_is_no_prefix() -> None:
    prefix = run_prefix(make_base("llama"), None, torch.zeros(0, dtype=torch.long))
    assert prefix is None
    assert expanded(prefix, 3) is None
