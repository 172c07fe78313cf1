"""What a sweep shows: means over seeds with their intervals, and how far each setting is from the chosen one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from experiments.runs import Experiment
from softprompt.evaluation.names import NAMES, baselines
from softprompt.runtime.secrets import redacted

LEVEL = 0.95


Interval = dict[str, float]  # mean, low and high; of one run, the mean alone


@dataclass(frozen=True)
class Setting:
    """The runs that differ in nothing but the seed. Losses are in nats per answer token.

    Attributes:
        values: of the params that the sweep varies, in words.
        validations: of each seed, the loss of the validation split.
        tests: of each seed, the loss of the test split.
        validation: mean of the first.
        test: mean of the second.
        minus_chosen: test loss minus the chosen setting's, paired by seed; None for the chosen one and without a pair.
    """

    values: str
    validations: dict[str, float]
    tests: dict[str, float]
    validation: Interval
    test: Interval
    minus_chosen: Interval | None = None


@dataclass(frozen=True)
class Summary:
    """Attributes:
    params: the params that the sweep varies, but for the seed.
    settings: in the order in which they ran.
    chosen: the one with the lowest mean validation loss; test losses have no say in it.
    baselines: test loss of each baseline that the sweep doesn't change, as no param of training does.
    """

    params: list[str]
    settings: list[Setting]
    chosen: Setting
    baselines: dict[str, float]


def summary(runs: Sequence[Experiment]) -> Summary:
    """`runs` of one sweep, at least one, all done."""
    params = [key for key in runs[0].params if key != "seed" and len({_word(run.params[key]) for run in runs}) > 1]
    alike: dict[tuple[str, ...], list[Experiment]] = {}
    for run in runs:
        alike.setdefault(tuple(_word(run.params[key]) for key in params), []).append(run)
    settings = [_setting(params, values, group) for values, group in alike.items()]
    chosen = min(settings, key=lambda setting: setting.validation["mean"])
    losses = {name: {run.metrics[name] for run in runs if name in run.metrics} for name in baselines(NAMES)}
    return Summary(
        params=params,
        settings=[_against(setting, chosen) for setting in settings],
        chosen=chosen,
        baselines={name: found.pop() for name, found in losses.items() if len(found) == 1},
    )


def t_interval(values: Sequence[float]) -> Interval:
    """Mean of `values` and its interval by Student's t, which takes them for a sample of a normal distribution."""
    from scipy import stats

    mean = fmean(values)
    if len(values) < 2:
        return {"mean": mean}
    error = float(stats.sem(values))
    half = error * float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _setting(params: list[str], values: tuple[str, ...], runs: list[Experiment]) -> Setting:
    named = [f"{key.split('.')[-1]} {value}" for key, value in zip(params, values, strict=True)]
    validations = {_word(run.params["seed"]): run.metrics["validation"] for run in runs}
    tests = {_word(run.params["seed"]): run.metrics["tuned"] for run in runs}
    return Setting(
        values=values[0] if len(values) == 1 else ", ".join(named) or "all the same",
        validations=validations,
        tests=tests,
        validation=t_interval([*validations.values()]),
        test=t_interval([*tests.values()]),
    )


def _against(setting: Setting, chosen: Setting) -> Setting:
    both = [seed for seed in setting.tests if seed in chosen.tests]
    if setting is chosen or not both:
        return setting
    gap = t_interval([setting.tests[seed] - chosen.tests[seed] for seed in both])
    return replace(setting, minus_chosen=gap)


def _word(value: Any) -> str:
    if isinstance(value, float):  # as which DVC gives whole numbers too
        return str(int(value)) if value.is_integer() else f"{value:g}"
    return "null" if value is None else redacted(str(value))
