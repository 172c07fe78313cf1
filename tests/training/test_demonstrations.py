"""A prompt that begins as training rows: as good as these rows in the context, and not trained on them."""

import shutil
from pathlib import Path

import pytest
from datasets import Dataset

from softprompt.engine.row_losses import row_losses
from softprompt.provenance.origin import load_origin
from softprompt.runtime.errors import InputError
from tests.conftest import run_stages
from tests.toy import write_params
from tests.training.prompts import demonstrations_of, fresh, params_of


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
def test_untrained_it_is_the_few_shot_prompt(finished: Path, tmp_path: Path, method: str) -> None:
    changes = {"train.method": method, "train.init": "demonstrations", "train.num_virtual_tokens": 150}
    params = params_of(tmp_path, **changes)
    ids, _ = demonstrations_of(finished, params)
    model = fresh(finished / "models/base", params, ids)
    assert model.virtual_tokens == len(ids) <= 150
    test = Dataset.from_file(str(finished / "data/tokenized/test.arrow"))
    tuned, _ = row_losses(model, test, 4)
    with model.disable_adapter():
        few_shot, _ = row_losses(model, test, 4, ahead=ids)
        base, _ = row_losses(model, test, 4)
    assert tuned == pytest.approx(few_shot, rel=1e-6)
    assert tuned != pytest.approx(base, rel=1e-4)


def test_their_rows_are_not_trained_on(finished: Path, tmp_path: Path) -> None:
    every = Dataset.from_file(str(finished / "data/tokenized/train.arrow"))
    changes = {"train.init": "demonstrations", "train.num_virtual_tokens": 150}
    chosen = []
    for seed in (1, 2):
        ids, left = demonstrations_of(finished, params_of(tmp_path, seed=seed, **changes))
        gone = [row for row in every if row["example_id"] not in set(left["example_id"])]
        assert 0 < len(gone) == len(every) - len(left)
        for row in gone:
            answer = [label for label in row["labels"] if label != -100]
            places = range(len(ids) - len(answer) + 1)
            assert any(ids[place : place + len(answer)] == answer for place in places), "it is in the prompt"
        chosen.append({row["example_id"] for row in gone})
    assert chosen[0] != chosen[1]


def test_its_origin_names_them(finished_project: Path) -> None:
    every = set(Dataset.from_file("data/tokenized/train.arrow")["example_id"])
    changes = {"train.method": "prefix_tuning", "train.num_virtual_tokens": 150, "train.max_steps": 1}
    write_params(finished_project, **changes)
    shutil.rmtree("models/adapter")
    shutil.rmtree("results/train")
    run_stages("train")
    origin = load_origin(Path("models/adapter"))
    assert origin.demonstrations
    assert set(origin.demonstrations) < every


def test_other_beginnings_leave_all_rows(finished: Path, tmp_path: Path) -> None:
    ids, left = demonstrations_of(finished, params_of(tmp_path))
    assert ids == []
    assert len(left) == len(Dataset.from_file(str(finished / "data/tokenized/train.arrow")))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (5, "train.num_virtual_tokens: 5 tokens have no room for a training row in the template"),
        (100_000, "train.init: demonstrations takes all training rows, and none is left to train on"),
    ],
)
def test_too_few_tokens_and_too_many_are_refused(finished: Path, tmp_path: Path, tokens: int, message: str) -> None:
    changes = {"train.init": "demonstrations", "train.num_virtual_tokens": tokens}
    with pytest.raises(InputError, match=message):
        demonstrations_of(finished, params_of(tmp_path, **changes))
