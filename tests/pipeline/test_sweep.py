"""`make sweep` and `make search` through the real DVC, on the toy."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.clones import call, stages_run
from tests.toy import ROOT

SMALL = """# What two tokens do.
dvc exp run --queue --name small -S train.num_virtual_tokens=2 -S seed=1,7 evaluate
"""


def test_a_sweep_is_run_and_shown(clone: Path, browser: Browser) -> None:
    (clone / "experiments/small.sh").write_text(SMALL, encoding="utf-8")
    output = call(clone, "make sweep NAME=small")
    assert sorted(set(stages_run(output))) == ["evaluate", "train"], "the rest is shared, and no report is wanted"
    assert "What two tokens do." in output
    head, _, two = [line for line in output.splitlines() if line.startswith("|")]
    assert "| chosen | seeds | validation loss, 95% interval |" in head
    runs = {row["Experiment"]: row for row in json.loads(call(clone, "python -c '" + SHOWN + "'"))}
    mean = sum(runs[name]["validation"] for name in ("small-1", "small-2")) / 2
    assert f"{mean:.3f} [" in two
    page = browser.new_page()
    requests = list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.goto((clone / "results/sweep-small.html").as_uri())
    assert page.locator("h1").inner_text() == "One setting, 2 seeds."
    assert page.locator("tbody tr").count() == 1
    assert len(requests) == 1, "the page itself"

    # The same again, with a setting that can't be: what was computed is not computed again, what failed is named.
    (clone / "experiments/small.sh").write_text(SMALL.replace("tokens=2", "tokens=2,0"), encoding="utf-8")
    output = call(clone, "make sweep NAME=small", ok=False)
    assert "evaluate" not in stages_run(output)
    assert output.count("is cached - skipping run") == 4
    for name in ("small-3", "small-4"):
        assert f"error: {name} is not done; its log: dvc queue logs {name}" in output
    assert two in output, "the others are shown as they were"
    page.reload()
    assert page.locator("tbody tr").count() == 1
    page.close()
    assert "num_virtual_tokens: 0 is not allowed" in call(clone, "dvc queue logs small-3")
    call(clone, "dvc queue remove -q --all")


SHOWN = 'import dvc.api, json; print(json.dumps([r for r in dvc.api.exp_show() if r["Experiment"]], default=str))'


def test_optuna_searches_by_the_validation_loss(clone: Path) -> None:
    output = call(clone, "make search TRIALS=2")
    assert stages_run(output) == ["train"] * 2
    losses = [float(loss) for loss in re.findall(r"virtual tokens; validation loss (\S+) at", output)]
    best = min(losses)
    assert f"best: search-{losses.index(best) + 1}, validation loss {best:.4f}" in output


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
