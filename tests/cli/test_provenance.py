"""`softprompt provenance`: an adapter held against the repository, and an experiment against its own code."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from softprompt.provenance.graph import params_of
from softprompt.provenance.origin import load_origin
from tests.cli.conftest import Command, copy_of, invoke
from tests.clones import call
from tests.toy import write_params


@pytest.fixture
def changeable(repository: Path) -> Iterator[Path]:
    """The repository, whose tracked files a test may change."""
    yield repository
    call(repository, "git checkout -q .")


def differing(*names: object) -> dict[str, tuple[str, str]]:
    """What -> (made with, here), of all that is not the same."""
    result = invoke("provenance", *names, "--json")
    shown, _ = json.JSONDecoder().raw_decode(result.stdout)  # the runner puts the message of the exit behind it
    found = {line["what"]: (line["made with"], line["here"]) for line in shown["made_of"] if line["here"] != "same"}
    assert (result.exit_code == 0) == shown["verified"] == (not found)
    return found


def test_of_the_workspace_all_is_the_same(answer: Command, repository: Path) -> None:
    shown = answer("provenance")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in shown.splitlines()[2:]]
    assert {line[2] for line in lines} == {"same"}
    made_with = {line[0]: line[1] for line in lines}
    assert made_with["model"] == "models/local/toy"
    assert made_with["rows, from"] == "data/local/rows.json"
    assert made_with["train.num_virtual_tokens"] == "4"
    assert {"seed", "train.learning_rate", "softprompt/engine", "stages/train.py", "torch", "peft"} <= made_with.keys()
    assert "runtime.save_steps" not in made_with, "changes no byte"


def test_a_section_is_shown_key_by_key_in_an_order_of_its_own(tmp_path: Path) -> None:
    """The order of params.yaml means nothing; a mapping of checksums is one value; an older file lacks some keys."""
    graph = "stages: {one: {params: [seed, model.sha256, data, train, evaluate]}}"
    values = "model: {sha256: {'hf://a/b': c}}\ndata: {sha256: {'x.y://z#1': d}, columns: {input: null, output: q}}\n"
    found = []
    for order in ("train: {b: 1, a: {d: 2, c: 3}}", "train: {a: {c: 3, d: 2}, b: 1}"):
        (tmp_path / "dvc.yaml").write_text(graph, encoding="utf-8")
        (tmp_path / "params.yaml").write_text(f"seed: 5\n{values}{order}\n", encoding="utf-8")
        found.append(list(params_of(["one"], tmp_path).items()))
    assert found[0] == [
        ("seed", 5),
        ("model.sha256", {"hf://a/b": "c"}),
        ("data.columns.input", None),
        ("data.columns.output", "q"),
        ("data.sha256", {"x.y://z#1": "d"}),
        ("train.a.c", 3),
        ("train.a.d", 2),
        ("train.b", 1),
        ("evaluate", None),
    ]
    assert found[1] == found[0]


def test_changed_code_params_and_libraries(changeable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_params(changeable, **{"train.batch_size": 5, "evaluate.rows": 1})
    assert differing() == {"train.batch_size": ("8", "5")}
    with (changeable / "softprompt/training/order.py").open("a") as file:
        file.write("# changed\n")
    assert set(differing()) == {"train.batch_size", "softprompt/training"}
    monkeypatch.setattr("softprompt.provenance.versions.importlib.metadata.version", lambda name: "0.0.1+local")
    assert differing()["torch"][1] == "0.0.1"


def test_an_experiment_is_held_against_its_own_code_and_params(changeable: Path, answer: Command) -> None:
    call(
        changeable, "dvc exp run --name six -S train.num_virtual_tokens=6 train && git checkout HEAD . && dvc checkout"
    )
    with (changeable / "softprompt/training/order.py").open("a") as file:
        file.write("# changed since\n")
    shown = answer("provenance", "six")
    assert "| train.num_virtual_tokens " in shown
    assert set(differing()) == {"softprompt/training"}


def test_other_rows_and_another_model(repository: Path, tmp_path: Path) -> None:
    changed = copy_of(repository / "models/adapter", tmp_path / "other", rows_sha256="0" * 64, base_sha256="f" * 64)
    assert set(differing(changed)) == {"model, SHA-256", "rows, SHA-256"}


def test_what_auto_chose_is_shown_and_an_older_adapter_that_names_no_choice_is_taken(
    repository: Path, tmp_path: Path
) -> None:
    adapter = repository / "models/adapter"
    auto = copy_of(adapter, tmp_path / "auto", chosen={"cpu_matmul": "mkl"})
    shown = json.loads(invoke("provenance", auto, "--json").stdout)
    assert {"what": "cpu_matmul, by auto", "made with": "mkl", "here": "same"} in shown["made_of"]
    older = copy_of(adapter, tmp_path / "older")
    origin = json.loads((older / "origin.json").read_text(encoding="utf-8"))
    assert origin.pop("chosen") == {}, "onednn was asked for"
    (older / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    assert load_origin(older).chosen == {}


def test_a_terminal_obeys_nothing_of_an_adapter(repository: Path, tmp_path: Path) -> None:
    escape = "\x1b[2J"
    hostile = copy_of(repository / "models/adapter", tmp_path / "hostile", base_model=escape, params={escape: escape})
    shown = invoke("provenance", hostile).output
    assert escape not in shown
    assert shown.count(r"\x1b[2J") == 4, "two cells of the param, one of the model, and the message"


def test_a_lock_whose_stages_do_not_follow_from_each_other(changeable: Path) -> None:
    lock = changeable / "dvc.lock"
    text = lock.read_text(encoding="utf-8")
    digest = text.split("path: data/prepared")[1].split("md5: ")[1][:32]
    lock.write_text(text.replace(digest, "0" * 32, 1), encoding="utf-8")
    assert "data/prepared" in differing()["rows, from"][1]


def test_a_damaged_adapter_and_an_unknown_name(refusal: Command, adapter: Path, tmp_path: Path) -> None:
    other = copy_of(adapter, tmp_path / "other")
    (other / "origin.json").unlink()
    (other / "origin.json").write_text("{}", encoding="utf-8")
    assert "origin.json is damaged" in refusal("provenance", other)
    assert "nothing-known is no folder, and no experiment" in refusal("provenance", "nothing-known")
