"""origin.json: adapters of every earlier version answer, those of a later one are refused by name."""

import json
import shutil
from pathlib import Path

import pytest

from softprompt.provenance.origin import SCHEMA, load_origin
from softprompt.provenance.versions import VERSION
from softprompt.runtime.outputs import output_folder
from tests.cli.conftest import Command
from tests.cli.test_generate import QUESTION, expected
from tests.cli.test_provenance import differing

FIRST = ["base_model", "base_sha256", "template", "system"]
MADE = [*FIRST, "rows_sha256", "params", "code", "versions"]
TEMPLATES = ["chat_template", "chat_template_kwargs", "date", "fold_system"]
# The keys that each version wrote, in the order in which they came.
SHAPES = {
    "first": FIRST,
    "made": MADE,
    "chosen": [*MADE, "chosen"],
    "templates": [*MADE, "chosen", *TEMPLATES],
    "demonstrations": [*MADE, "chosen", *TEMPLATES, "demonstrations"],
}


def rewritten(adapter: Path, folder: Path, values: object) -> Path:
    """A copy of an adapter with `values` as its origin.json, and a manifest of its own."""
    with output_folder(folder) as partial:
        for file in adapter.iterdir():
            if file.name not in ("SHA256SUMS", "origin.json"):
                shutil.copy(file, partial)
        (partial / "origin.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


@pytest.fixture
def origin(repository: Path) -> dict:
    return json.loads((repository / "models/adapter/origin.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("shape", SHAPES)
def test_an_earlier_adapter_answers(
    answer: Command, repository: Path, tmp_path: Path, origin: dict, shape: str
) -> None:
    values = {key: origin[key] for key in SHAPES[shape]}
    older = rewritten(repository / "models/adapter", tmp_path / "older", values)
    shown = answer("generate", "--adapter", older, "--max-new-tokens", 12, QUESTION)
    assert shown == expected("tuned", QUESTION, new_tokens=12) + "\n"
    found = load_origin(older)
    assert {key: getattr(found, key) for key in values} == values
    assert (found.schema, found.version) == (SCHEMA, None)


def test_the_first_adapter_compares_and_says_what_is_not_known(
    answer: Command, repository: Path, tmp_path: Path, origin: dict
) -> None:
    older = rewritten(repository / "models/adapter", tmp_path / "older", {key: origin[key] for key in FIRST})
    compared = json.loads(answer("compare", "workspace", older, "--json"))["compared"]
    assert compared[-1]["loss"] == compared[-2]["loss"]
    found = differing(older)
    assert found["softprompt"] == ("null", VERSION)
    assert {"rows, SHA-256", "train.batch_size", "torch"} <= found.keys()
    assert "model, SHA-256" not in found


def test_it_names_the_release_that_wrote_it(origin: dict) -> None:
    assert list(origin)[:2] == ["schema", "version"]
    assert (origin["schema"], origin["version"]) == (SCHEMA, VERSION)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"schema": 3, "version": "9.1.0", "more": 1},
            f"has schema 3, and softprompt {VERSION} reads schemas up to 2; needed: softprompt 9.1.0, which",
        ),
        ({"schema": 3, "version": None}, "needed: softprompt of a later release, which wrote it"),
        ({"more": 1}, "is not what the train stage writes (more: Unexpected"),
        ({"schema": 1}, "(schema: Input should be 2)"),
        ({"template": 5}, "(template: Input should be a valid string)"),
        ({"chosen": {"cpu_matmul": None}}, "(chosen: cpu_matmul: Input should be a valid string)"),
        ({"system": "\ud800"}, "Invalid JSON"),
        (
            {"template": "Say it.", "chat_template": None},
            """(template: "Say it." is not allowed; allowed: 'chat', or text with {instruction}""",
        ),
        ({"date": "today"}, '(date: "today" is not allowed; allowed: a date in quotes'),
        ({"chat_template_kwargs": {"messages": []}}, "such as enable_thinking: false; not messages"),
        ({"chat_template": "{% if %}"}, "other/origin.json: chat_template: no template in Jinja: "),
        ({"chat_template_kwargs": {"colour": 1}}, "other/origin.json: chat_template_kwargs: the chat template has no"),
    ],
)
def test_what_is_refused(
    refusal: Command, repository: Path, tmp_path: Path, origin: dict, changes: dict, message: str
) -> None:
    other = rewritten(repository / "models/adapter", tmp_path / "other", origin | changes)
    shown = refusal("generate", "--adapter", other, QUESTION)
    assert message in shown
    assert str(other) in shown
    assert "tokenize." not in shown, "the user's params are another thing"
    assert len(shown.splitlines()) == 1


def test_compare_names_the_file_as_well(refusal: Command, repository: Path, tmp_path: Path, origin: dict) -> None:
    other = rewritten(repository / "models/adapter", tmp_path / "other", origin | {"chat_template": "{% if %}"})
    assert f"error: {other}/origin.json: chat_template: no template in Jinja: " in refusal("compare", other)


def test_what_is_no_origin_at_all(refusal: Command, repository: Path, tmp_path: Path, origin: dict) -> None:
    for number, values in enumerate(([], {}, {key: origin[key] for key in FIRST[1:]})):
        other = rewritten(repository / "models/adapter", tmp_path / str(number), values)
        assert "is not what the train stage writes" in refusal("generate", "--adapter", other, QUESTION)


def test_a_backslash_and_n_of_an_earlier_adapter_stays(repository: Path, tmp_path: Path, origin: dict) -> None:
    """params.yaml refuses it since; the adapter was tuned with it."""
    older = rewritten(repository / "models/adapter", tmp_path / "older", origin | {"system": "Be kind.\\nBe brief."})
    assert load_origin(older).system == "Be kind.\\nBe brief."
