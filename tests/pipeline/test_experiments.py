"""Experiments through the real DVC, on the toy."""

import json
from pathlib import Path

from playwright.sync_api import Browser

from tests.clones import call, stages_run
from tests.hub import Hub
from tests.toy import write_params


def test_the_first_experiment(clone: Path) -> None:
    """It runs what it has to, the table of DVC fits a terminal, and a param that is set back costs nothing."""
    output = call(clone, "dvc exp run -S train.num_virtual_tokens=5")
    assert stages_run(output) == ["train", "evaluate", "report"]
    config = json.loads((clone / "models/adapter/adapter_config.json").read_text(encoding="utf-8"))
    assert config["num_virtual_tokens"] == 5
    shown = json.loads(call(clone, "dvc exp show --json"))
    assert len(shown[1]["experiments"]) == 1, "the workspace, then the commit with its experiment"
    table = call(clone, "COLUMNS=150 dvc exp show --only-changed --no-pager")
    assert "train.num_virtual_tokens" in table, "nothing had to be left out for a terminal's width"
    assert max(len(line) for line in (table + call(clone, "dvc metrics show")).splitlines()) <= 150
    write_params(clone, **{"train.num_virtual_tokens": 4})
    output = call(clone, "dvc repro")
    assert stages_run(output) == []
    assert output.count("is cached - skipping run") == 3


def test_a_file_added_to_local_stays_through_checkouts_and_experiments(clone: Path) -> None:
    (clone / "data/local/more.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 3, encoding="utf-8")
    call(clone, "dvc add data/local/more.jsonl && dvc checkout")
    assert (clone / "data/local/more.jsonl").exists()
    call(clone, "dvc exp run -S train.max_steps=2 train")
    assert (clone / "data/local/more.jsonl").exists()
    call(clone, "rm data/local/more.jsonl && dvc checkout data/local/more.jsonl.dvc")
    assert (clone / "data/local/more.jsonl").exists()


def test_an_experiment_aside_names_files_that_only_the_workspace_has(clone: Path) -> None:
    """A file alone, and one beside others that git has: a folder isn't read without it."""
    rows = '{"instruction": "a", "output": "b"}\n' * 3
    folder = clone / "data/local/mine"
    folder.mkdir()
    for name in ("kept.jsonl", "new.jsonl"):
        (folder / name).write_text(rows, encoding="utf-8")
    (folder / "notes.txt").write_text("no reader takes it, so nothing is amiss without it", encoding="utf-8")
    call(clone, "git add data/local/mine/kept.jsonl")
    for source in ("data/local/mine/new.jsonl", "data/local/mine", "data/local/mine/*.jsonl"):
        output = call(clone, f"dvc exp run --temp -S 'data.source=\"{source}\"' fetch_data", ok=False)
        assert f"data/local/mine/new.jsonl is in {clone}, but not in this experiment's own workspace" in output
        assert "git add or dvc add it there first" in output
    call(clone, "git add data/local/mine/new.jsonl")
    assert "6 of 6 rows" in call(clone, "dvc exp run --temp -S data.source=data/local/mine fetch_data")


def test_another_model_takes_one_override(clone: Path, hub: Hub, toy_model: Path) -> None:
    """The shipped checksum is the shipped source's; DVC takes a mapping, a hash and null alike."""
    hub.repository("first/own").commit({path.name: path.read_bytes() for path in toy_model.iterdir()})
    output = call(clone, "dvc exp run -S model.source=first/own fetch_model")
    assert stages_run(output) == ["local_sources", "fetch_model"]
    assert json.loads((clone / "models/base/source.json").read_text(encoding="utf-8"))["source"] == "hf://first/own"
    changed = json.loads(call(clone, "dvc params diff --json"))["params.yaml"]
    assert changed == {"model.source": {"old": "models/local/toy", "new": "first/own"}}
    assert stages_run(call(clone, "dvc exp run -S model.sha256=null fetch_model")) == ["fetch_model"]
    output = call(clone, f"dvc exp run -S model.sha256={'0' * 64} fetch_model", ok=False)
    assert "model.sha256: the bytes of 'first/own' (no path here, so hf://first/own) are not the pinned ones" in output


def test_another_baseline_reruns_no_training(clone: Path) -> None:
    output = call(clone, "dvc exp run -S 'evaluate.hard_prompt=\"Be brief: a word.\"'")
    assert stages_run(output) == ["evaluate", "report"]


def test_plots_are_drawn_offline(clone: Path, browser: Browser) -> None:
    call(clone, "dvc plots show")
    page, requests = browser.new_page(), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.goto((clone / "dvc_plots/index.html").as_uri())
    page.wait_for_selector(".vega-embed:has(.marks) >> nth=2")
    assert page.locator(".vega-embed:has(.marks)").count() == 3
    assert len(requests) == 1, "the page itself"
    page.close()
