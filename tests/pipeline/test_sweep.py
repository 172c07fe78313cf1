"""`make sweep` and `make search` through the real DVC, on the toy."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from experiments.runs import Runs
from tests.clones import call, stages_run
from tests.toy import ROOT, write_params

SMALL = """# What two tokens do.
dvc exp run --queue --name small -S seed=1,7 evaluate
"""


@pytest.mark.slow
def test_a_sweep_is_run_and_shown(clone: Path, browser: Browser) -> None:
    """Beside what others have: a task in the queue, and an experiment by the name that the sweep would take."""
    call(clone, "dvc exp run --temp --name small-1 -S train.max_steps=2 train")
    (mine,) = (line for line in call(clone, "git for-each-ref refs/exps").splitlines() if line.endswith("/small-1"))
    call(clone, "dvc exp run --queue --name waiting -S train.max_steps=3")
    write_params(clone, **{"train.num_virtual_tokens": 2})
    (clone / "experiments/small.sh").write_text(SMALL, encoding="utf-8")
    output = call(clone, "make sweep NAME=small")
    logs = "".join(log(clone, name) for name in ("small-2", "small-3"))
    assert sorted(set(stages_run(logs))) == ["evaluate", "train"], "the rest is shared, and no report is wanted"
    assert "What two tokens do." in output
    head, _, two = [line for line in output.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head.split("|")[2:5]] == ["chosen", "seeds", "validation loss, 95% interval"]
    runs = {row["Experiment"]: row for row in json.loads(call(clone, "python -c '" + SHOWN + "'"))}
    mean = sum(runs[name]["validation"] for name in ("small-2", "small-3")) / 2
    assert f"{mean:.3f} [" in two
    kept = json.loads((clone / "experiments/seeds.json").read_text(encoding="utf-8"))
    assert kept["tests"] == {
        seed: pytest.approx(runs[f"small-{place}"]["tuned"]) for seed, place in (("1", 2), ("7", 3))
    }
    assert kept["of"]["params"]["train.num_virtual_tokens"] == 2
    page = browser.new_page()
    requests = list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.goto((clone / "results/sweep-small.html").as_uri())
    assert page.locator("h1").inner_text() == "One setting, 2 seeds."
    assert page.locator("tbody tr").count() == 1
    assert len(requests) == 1, "the page itself"

    # The same again, with a setting that can't be: what is done is not done again, what failed is named.
    (clone / "experiments/small.sh").write_text(
        SMALL.replace("-S", "-S train.num_virtual_tokens=2,0 -S"), encoding="utf-8"
    )
    output = call(clone, "make sweep NAME=small", ok=False)
    assert "done before: small-2, small-3" in output
    for name in ("small-4", "small-5"):
        assert f"error: {name} is not done; its log: .dvc/tmp/sweeps/{name}.log" in output
        assert "num_virtual_tokens: 0 is not allowed" in log(clone, name)
    assert two in output, "the others are shown as they were"
    page.reload()
    assert page.locator("tbody tr").count() == 1
    page.close()

    # Other code: what was done with the old one is kept, and is not what the sweep asks for.
    with (clone / "stages/report.py").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    (clone / "experiments/small.sh").write_text(SMALL.replace("1,7", "1"), encoding="utf-8")
    output = call(clone, "make sweep NAME=small")
    assert "done before" not in output
    assert log(clone, "small-4").count("is cached - skipping run") == 2
    refs = call(clone, "git for-each-ref refs/exps")
    assert mine in refs.splitlines()
    assert [f"/small-{number}\n" in refs for number in range(1, 6)] == [True] * 4 + [False]
    assert re.search(r"waiting +\S+ +\S+ +Queued", call(clone, "dvc queue status"))
    call(clone, "dvc queue remove -q --all")


def test_no_experiment_starts_from_another_workspace_than_the_first(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    runs = Runs("mine", "train")
    write_params(clone, seed=5)
    assert "was not started, since the workspace was changed" in str(runs.run("mine-1", ["train.max_steps=2"]))
    assert "mine-1" not in call(clone, "git for-each-ref refs/exps")


def log(clone: Path, name: str) -> str:
    return (clone / f".dvc/tmp/sweeps/{name}.log").read_text(encoding="utf-8")


SHOWN = 'import dvc.api, json; print(json.dumps([r for r in dvc.api.exp_show() if r["Experiment"]], default=str))'


@pytest.mark.slow  # tests/pipeline/test_places.py runs a search of one trial
def test_optuna_searches_by_the_validation_loss(clone: Path) -> None:
    output = call(clone, "make search TRIALS=2")
    assert [stages_run(log(clone, f"search-{number}")) for number in (1, 2)] == [["train"]] * 2
    losses = [float(loss) for loss in re.findall(r"search-\d: validation loss (\S+)", output)]
    best = f"search-{losses.index(min(losses)) + 1}"
    assert f"best: {best}, validation loss {min(losses):.4f}" in output
    refs = call(clone, "git for-each-ref refs/exps")
    again = call(clone, "make search TRIALS=2")
    assert "its log" not in again, "nothing is run"
    assert re.findall(r"search-\d: .*", again) == re.findall(r"search-\d: v.*", output)
    assert call(clone, "git for-each-ref refs/exps") == refs
    (there,) = re.findall(r"dvc exp branch .*? && dvc checkout", output)
    call(clone, there)
    assert "train:" not in call(clone, "dvc status train")
    call(clone, f"git switch -q main && git branch -qD {best}-branch")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("make sweep", "error: NAME is ''; allowed: initialisation | learning_rate | method | seeds | virtual_tokens"),
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


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo hello", "not a sweep; allowed: a question, then one command: dvc exp run --queue --name mine -S"),
        (SMALL.splitlines()[1], "not a sweep"),
        ("dvc exp run --queue --name mine --force -S seed=1,2 train", "not a sweep"),
        ("dvc exp run --queue --name mine -S seed=1,2", "not a sweep"),
        ("dvc exp run --queue --name mine -S sead=1,2 train", "-S sead=1: "),
        ("dvc exp run --queue --name mine -S seed=[1 train", "-S: "),
        ("dvc exp run --queue --name mine -S 'seed=1 train", "No closing quotation"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(clone: Path, command: str, message: str) -> None:
    (clone / "experiments/mine.sh").write_text(f"# What?\n{command}\n", encoding="utf-8")
    output = call(clone, "make sweep NAME=mine", ok=False)
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize("script", sorted((ROOT / "experiments").glob("*.sh")), ids=lambda script: script.stem)
def test_ready_sweeps_are_queued_as_they_are(clone: Path, script: Path) -> None:
    question, command = script.read_text(encoding="utf-8").strip().split("\n")
    assert question.startswith("# ")
    queued = call(clone, command)
    names = re.findall(r"Queued experiment '(\S+)'", queued)
    assert len(names) in (3, 12, 15)
    assert names[0] == f"{script.stem}-1"
    call(clone, "dvc queue remove -q --all")
