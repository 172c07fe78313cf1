"""`make sweep` and `make search` through the real DVC, on the toy."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.clones import call, stages_run
from tests.toy import ROOT

SMALL = """# Whether one token more helps.
dvc exp run --queue --name small -S train.num_virtual_tokens=2,3 -S seed=1,7 evaluate
"""


def test_a_sweep_is_run_and_shown(clone: Path, browser: Browser) -> None:
    (clone / "experiments/small.sh").write_text(SMALL, encoding="utf-8")
    output = call(clone, "make sweep NAME=small")
    assert sorted(set(stages_run(output))) == ["evaluate", "train"], "the rest is shared, and no report is wanted"
    assert "Whether one token more helps." in output
    head, _, two, three = [line for line in output.splitlines() if line.startswith("|")]
    assert head.startswith("| train.num_virtual_tokens | chosen | seeds | validation loss, 95% interval |")
    runs = {row["Experiment"]: row for row in json.loads(call(clone, "python -c '" + SHOWN + "'"))}
    for line, names in ((two, ("small-1", "small-2")), (three, ("small-3", "small-4"))):
        mean = sum(runs[name]["validation"] for name in names) / 2
        assert f"{mean:.3f} [" in line
    page = browser.new_page()
    requests = list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.goto((clone / "results/sweep-small.html").as_uri())
    chosen = "3" if "yes" in three else "2"
    assert page.locator("h1").inner_text() == f"Validation chooses train.num_virtual_tokens {chosen}."
    assert page.locator("tbody tr").count() == 2
    assert len(requests) == 1, "the page itself"
    page.close()

    again = call(clone, "make sweep NAME=small")
    assert stages_run(again) == [], "all comes out of the run cache"
    assert re.findall(r"^\|.*", again, re.MULTILINE) == [head, _, two, three]


SHOWN = 'import dvc.api, json; print(json.dumps([r for r in dvc.api.exp_show() if r["Experiment"]], default=str))'


def test_a_failed_experiment_is_named_and_not_counted(clone: Path) -> None:
    """DVC shows it with the metrics of its baseline."""
    failing = SMALL.replace("num_virtual_tokens=2,3 -S seed=1,7", "max_steps=4,0")
    (clone / "experiments/small.sh").write_text(failing, encoding="utf-8")
    output = call(clone, "make sweep NAME=small", ok=False)
    assert "error: small-2 is not done; its log: dvc queue logs small-2" in output
    assert "Traceback" not in output
    assert len([line for line in output.splitlines() if line.startswith("|")]) == 3, "head, rule, the one that is done"
    assert "train.max_steps: 0 is not allowed" in call(clone, "dvc queue logs small-2")


def test_optuna_searches_by_the_validation_loss(clone: Path) -> None:
    output = call(clone, "make search TRIALS=1")
    assert stages_run(output) == ["train"]
    (loss,) = re.findall(r"virtual tokens; validation loss (\S+) at", output)
    assert f"best: search-1, validation loss {float(loss):.4f}" in output


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("make sweep", "error: NAME is ''; allowed: initialisation | learning_rate | method | virtual_tokens, or"),
        ("make sweep NAME=methods", "error: NAME is 'methods'; allowed: initialisation"),
        ("make sweep NAME=method JOBS=0", "error: JOBS is '0'; allowed: a number of experiments that run at once"),
        ("make search TRIALS=many", "error: TRIALS is 'many'; allowed: a number of experiments, at least 1"),
    ],
)
def test_bad_input_is_refused(clone: Path, command: str, message: str) -> None:
    output = call(clone, command, ok=False)
    assert message in output
    assert "Traceback" not in output
    assert call(clone, "git status --porcelain") == ""


@pytest.mark.parametrize("script", sorted((ROOT / "experiments").glob("*.sh")), ids=lambda script: script.stem)
def test_ready_sweeps_are_queued_as_they_are(clone: Path, script: Path) -> None:
    question, command = script.read_text(encoding="utf-8").strip().split("\n")
    assert question.startswith("# ")
    queued = call(clone, command)
    names = re.findall(r"Queued experiment '(\S+)'", queued)
    assert len(names) in (9, 15)
    assert names[0] == f"{script.stem}-1"
    call(clone, "dvc queue remove -q --all")
