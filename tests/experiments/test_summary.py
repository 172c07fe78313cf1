"""Means over seeds, their intervals, and the choice."""

import re

import pytest

from experiments.page import chart, lines
from experiments.runs import Experiment
from experiments.summary import Summary, summary, t_interval
from experiments.sweep import trained_alike
from tests.toy import ROOT

LOSSES = {"hard": 2.5, "few_shot": 2.45}


def run(number: int, setting: dict[str, object], seed: float, validation: float, test: float) -> Experiment:
    params = {"seed": seed, "train.batch_size": 8.0, **setting}
    return Experiment(f"x-{number}", "0" * 7, "Success", params, {"validation": validation, "tuned": test, **LOSSES})


def sweep() -> Summary:
    """Two lengths, three seeds; the longer one is chosen, though the shorter is better on the test rows."""
    runs = [
        run(1, {"train.num_virtual_tokens": 5.0}, 1.0, 2.2, 2.0),
        run(2, {"train.num_virtual_tokens": 5.0}, 2.0, 2.3, 2.1),
        run(3, {"train.num_virtual_tokens": 5.0}, 3.0, 2.4, 2.2),
        run(4, {"train.num_virtual_tokens": 10.0}, 3.0, 2.3, 2.6),
        run(5, {"train.num_virtual_tokens": 10.0}, 2.0, 2.2, 2.4),
        run(6, {"train.num_virtual_tokens": 10.0}, 1.0, 2.1, 2.2),
    ]
    return summary(runs)


def test_the_interval_is_students() -> None:
    """Of 1, 2, 3: mean 2, standard error 1/sqrt(3); with two degrees of freedom, t has its 97.5% point at 4.302653."""
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval == pytest.approx({"mean": 2.0, "low": 2 - 4.302653 / 3**0.5, "high": 2 + 4.302653 / 3**0.5})
    assert t_interval([1.5]) == {"mean": 1.5}, "one run has no interval"
    assert t_interval([1.5, 1.5]) == {"mean": 1.5, "low": 1.5, "high": 1.5}


def test_validation_chooses_and_differences_are_paired_by_seed() -> None:
    result = sweep()
    assert result.params == ["train.num_virtual_tokens"]
    assert [setting.values for setting in result.settings] == ["5", "10"]
    assert result.chosen.values == "10"
    assert result.baselines == LOSSES
    shorter, longer = result.settings
    assert longer.minus_chosen is None
    assert shorter.minus_chosen == pytest.approx(t_interval([2.0 - 2.2, 2.1 - 2.4, 2.2 - 2.6]))
    assert [line[1] for line in lines(result)] == ["chosen", "", "yes"]


def test_settings_of_several_params_are_named_by_them() -> None:
    both = [{"train.method": method, "train.init": init} for method in ("a", "b") for init in (None, "text")]
    result = summary([run(place, setting, 1.0, 2.0 + place, 2.0) for place, setting in enumerate(both)])
    assert [setting.values for setting in result.settings] == [
        "method a, init null",
        "method a, init text",
        "method b, init null",
        "method b, init text",
    ]
    assert lines(result)[1][3:] == ["2.000", "2.000", ""], "of one seed: no interval"


def test_the_chart_shows_every_seed_mean_and_interval() -> None:
    labels = re.findall(r'aria-label="([^"]*)"', chart(sweep()))
    assert [sum(f"; {what}: " in label for label in labels) for what in ("loss", "mean", "low")] == [12, 4, 4]
    assert {"hard: 2.5", "few_shot: 2.45"} <= set(labels)


@pytest.mark.parametrize(
    ("changes", "alike"),
    [
        (["seed=2"], True),
        (["seed=2", "evaluate.rows=1", "general.blocks=1"], True),
        (["seed=2", "train.max_steps=3"], False),
        (["data.columns.input=other"], False),
        (["train={method: lora}"], False),
    ],
)
def test_trainings_that_differ_in_the_seed_alone(
    changes: list[str], alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert trained_alike([["seed=1"], changes]) is alike
