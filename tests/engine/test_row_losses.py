"""Losses of rows in batches are those of each row alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PromptTuningConfig
from transformers import AutoModelForCausalLM

from softprompt.data.tokens import IGNORED
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import by_budget, row_losses


def make_rows() -> list[dict[str, list[int]]]:
    """Nine rows of very unequal lengths; the last label of one is in the middle of the row."""
    generator = np.random.default_rng(0)
    rows = []
    for length in (40, 3, 17, 2, 60, 5, 33, 8, 21):
        ids = generator.integers(3, 300, length).tolist()
        start = max(1, length // 2)
        rows.append({"input_ids": ids, "labels": [IGNORED] * start + ids[start:]})
    rows[4]["labels"][50:] = [IGNORED] * 10
    return rows


def test_with_the_adapter_disabled_they_are_the_base_models(toy_model: Path) -> None:
    """Against transformers' own loss, row by row, without padding."""
    plain, rows = AutoModelForCausalLM.from_pretrained(toy_model), make_rows()
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = SharedPrefixModel(AutoModelForCausalLM.from_pretrained(toy_model), config)
    with model.disable_adapter():
        losses, tokens = row_losses(model, rows, batch_size=4)
    for row, loss, count in zip(rows, losses, tokens, strict=True):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        assert count == sum(label != IGNORED for label in row["labels"])
        assert loss / count == pytest.approx(plain(input_ids=ids, labels=labels).loss.item(), rel=1e-5)
    tuned, _ = row_losses(model, rows, batch_size=4)
    assert not np.allclose(tuned, losses)


def test_a_batch_has_no_more_tokens_than_that_of_the_longest_rows() -> None:
    lengths = np.array([40, 3, 17, 2, 60, 5, 33, 8, 21])
    batches = by_budget(lengths, 2 * 60)
    assert sorted(index for batch in batches for index in batch) == list(range(9))
    assert all(len(batch) * lengths[batch].max() <= 120 for batch in batches)
    assert [len(batch) for batch in batches] == [5, 3, 1], "of short rows more"
