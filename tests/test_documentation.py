"""README and docs/ tell the truth: their numbers and commands; and the committed results are those of the code."""

import itertools
import json
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks import cost, gpu, quality, scale, search
from benchmarks.cases import CASES
from benchmarks.table import Line, markdown
from softprompt.evaluation.headline import headline
from softprompt.training.methods import METHODS
from tests.clones import blocks, call, documents, environment
from tests.toy import ROOT

PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in documents()}
README = PAGES["README.md"]
COMMANDS = [
    line.partition("  # ")[0] for text in PAGES.values() for block in blocks(text) for line in block.splitlines()
] + [command for text in PAGES.values() for command in re.findall(r"`(dvc exp run [^`]+)`", text)]


def marked(page: str, name: str) -> str:
    """What stands between `<!-- name ... -->` and `<!-- /name -->` in a page."""
    found = re.search(rf"<!-- {name}.*?-->\n(.*?)\n<!-- /{name} -->", PAGES[page], re.S)
    assert found
    return found[1]


def test_the_table_is_that_of_the_committed_metrics() -> None:
    metrics = json.loads((ROOT / "results/metrics.json").read_text(encoding="utf-8"))
    assert marked("README.md", "result") == headline(metrics)


def test_the_quality_table_is_that_of_the_committed_results() -> None:
    result = json.loads((ROOT / "results/quality.json").read_text(encoding="utf-8"))
    assert marked("docs/engine.md", "quality") == quality.table(result["recipes"])


def test_the_tables_of_scaling_are_those_of_the_benchmarks() -> None:
    runs = json.loads((ROOT / "results/scale.json").read_text(encoding="utf-8"))["runs"]
    wanted = {"cost": cost.checked(), "predicted": cost.predicted(), "scale": scale.table(runs)}
    for name, table in wanted.items():
        assert marked("docs/scaling.md", name) == table


def test_the_speed_table_is_that_of_the_committed_results() -> None:
    result = json.loads((ROOT / "results/benchmark.json").read_text(encoding="utf-8"))
    assert set(result["cases"]) <= set(CASES)
    names = [field.name for field in fields(Line) if field.name != "note"]
    table = [line for case in result["cases"].values() for line in case["table"]]
    assert marked("docs/engine.md", "benchmark") == markdown(
        [Line(**{name: line[name] for name in names}) for line in table]
    )


def test_the_gpus_table_is_that_of_the_committed_results() -> None:
    found = json.loads((ROOT / "results/gpu.json").read_text(encoding="utf-8"))
    assert marked("docs/scaling.md", "gpu") == gpu.table(found)


def test_what_is_trained_beats_what_is_not_with_every_seed() -> None:
    recipes = json.loads((ROOT / "results/quality.json").read_text(encoding="utf-8"))["recipes"]
    trained = recipes.keys() - quality.UNTRAINED
    assert "prefix_tuning" in trained
    for recipe in trained:
        assert len(recipes[recipe]) >= 3
        for seed, losses in recipes[recipe].items():
            for baseline in quality.UNTRAINED:
                assert losses["test"] < recipes[baseline][seed]["test"], (recipe, seed, baseline)


def test_the_search_table_is_that_of_the_committed_results() -> None:
    losses = json.loads((ROOT / "results/search.json").read_text(encoding="utf-8"))["losses"]
    assert marked("docs/engine.md", "search") == search.table(losses)


def test_the_search_found_no_better_defaults() -> None:
    """For prompts, of learning rate, warm-up and schedule: at most by what seeds move.

    LoRA's rate is SmolLM2's, and docs/engine.md says that Gemma's is another.
    """
    found = json.loads((ROOT / "results/search.json").read_text(encoding="utf-8"))
    rates = {name: method.learning_rates["adamw_torch"] for name, method in METHODS.items()}
    assert found["learning_rates"] == rates
    works = {work for of_change in found["losses"].values() for work in of_change["default"]}
    assert len(works) >= 2
    for method in search.LENGTHS:
        of_change = found["losses"][method]
        for name, losses in of_change.items():
            if not re.search("tokens|steps", name):  # these cost more
                for work, loss in losses.items():
                    assert loss > of_change["default"][work] - 0.02, (method, name, work)


def test_the_default_result_is_real() -> None:
    """The prompt gains at least 0.4 nats per token on the base model, and the interval is far from zero."""
    metrics = json.loads((ROOT / "results/metrics.json").read_text(encoding="utf-8"))
    assert metrics["tuned_minus_base"]["mean"] <= -0.4
    assert metrics["tuned_minus_base"]["high"] < -0.15


def test_dvc_lock_is_that_of_the_code_and_params() -> None:
    """A clone has no outputs, but its code, its params and its metrics must be those that dvc.lock names."""
    status = json.loads(call(ROOT, "dvc status --json"))
    faults = [
        (stage, kind, path)
        for stage, changes in status.items()
        for change in changes
        for kind in change
        if kind in ("changed deps", "changed outs")
        for path, state in change[kind].items()
        if state not in ("deleted", "not in cache")
    ]
    assert faults == []
    assert "changed command" not in json.dumps(status)


@pytest.mark.parametrize(
    "command", sorted({line for line in COMMANDS if line.startswith("dvc exp run") and "-S" in line})
)
def test_an_experiment_of_a_page_changes_params_as_meant(command: str, tmp_path: Path) -> None:
    """DVC's own parser takes the command, and the schema takes the result."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    # The shell takes the command apart, since its quotes are half of what is shown.
    words = subprocess.check_output(["bash", "-c", f"dvc() {{ printf '%s\\0' \"$@\"; }}; {command}"], text=True).split(
        "\0"
    )
    overrides = [value for option, value in itertools.pairwise(words) if option == "-S"]
    code = (
        "import sys; from pathlib import Path; from dvc.utils.hydra import apply_overrides, get_hydra_sweeps;"
        f"every = get_hydra_sweeps({{'': sys.argv[1:]}}) if {'--queue' in command} else [{{'': sys.argv[1:]}}];"
        "[apply_overrides('params.yaml', changes['']) for changes in every];"
        "from softprompt.config import load_params; load_params(Path('params.yaml'))"
    )
    result = subprocess.run(
        ["python", "-c", code, *overrides],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert overrides
    assert result.returncode == 0, result.stderr
    before, after = (path.read_text(encoding="utf-8") for path in (ROOT / "params.yaml", tmp_path / "params.yaml"))
    assert before != after


def test_the_two_experiments_of_make_reference_differ_in_what_the_docs_say() -> None:
    lines = subprocess.check_output(["make", "--dry-run", "reference"], cwd=ROOT, text=True).replace("\\\n", "")
    soft, hard = (set(line.split()) for line in lines.splitlines() if line.startswith("dvc exp run"))
    assert soft - hard == {"reference-soft", "train.init=random"}
    assert hard - soft == {"reference-hard", "train.init=text"}


def test_make_targets_and_linked_files_exist() -> None:
    for page, text in PAGES.items():
        for target in set(re.findall(r"(?m)(?:`|^)make (?:[A-Z]+=\S+ )?([a-z]+)", text)):
            command = ["make", "--dry-run", target, "NAME=method", "URL=/remote"]
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_no_path_or_name_of_a_machine_is_in_an_output() -> None:
    for name in ("dvc.lock", *(path.as_posix() for path in Path("results").glob("*.json"))):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "/tmp" not in text
        assert str(ROOT) not in text
