"""The report as text: what it says, that nothing of the data means anything in it, and the same bytes again."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from softprompt.config import load_params
from softprompt.config.stage import run_stage
from softprompt.report.filters import markdown_text, side, visible
from stages.report import main
from tests.clones import OURS
from tests.report.project import NASTY, SOURCES, make_metrics, make_rows, write_json, write_rows
from tests.toy import ROOT

HTML, MARKDOWN = Path("results/report.html"), Path("results/report.md")


class Page(HTMLParser):
    """Elements with their attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def report() -> Page:
    run_stage(main)
    return Page(HTML.read_text(encoding="utf-8"))


def test_every_text_of_the_data_is_text(results: Path) -> None:
    page = report()
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not {tag for tag, _ in page.elements} & {"img", "b", "link", "iframe", "object", "base"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "xlink:href", "src"):
            assert (attributes.get(name) or "#").startswith("#"), "nothing outside the page"
    for text in NASTY:
        assert f"base says {visible(text)}" in page.text
    assert "49" not in re.findall(r"hard says (\S+)", page.text), "no template is run that stands in a text"
    assert "\u202e" not in page.text
    assert "safe ⟨U+202E⟩gnp.exe" in page.text
    assert f"the chat template refuses the messages: {NASTY[0]}: {visible(NASTY[7])}" in page.text
    assert "<b onclick=alert(1)…" in page.text, "also as a name in a chart"


def test_what_stands_in_the_page(results: Path) -> None:
    page = report()
    assert "The tuned prompt helps." in page.text
    assert "It harms other text" in page.text
    assert "arXiv:2112.08348" in page.text
    assert "too few questions" in page.text
    sections = [attributes["id"] for tag, attributes in page.elements if tag in ("header", "section")]
    expected = "result training slices rows scores answers regression preparation virtual-tokens provenance"
    assert sections == expected.split()
    rows = [attributes for tag, attributes in page.elements if tag == "article"]
    order = [(float(row["data-few_shot"] or ""), row["data-id"]) for row in rows]
    assert order == sorted(order)
    assert len(order) == 18
    targets = {f"#{row['id']}" for row in rows}
    links = [a["href"] for tag, a in page.elements if tag == "a" and (a["href"] or "").startswith("#row-")]
    assert len(links) == 18
    assert set(links) == targets, "each answered row's point leads to it"
    assert '"Answer in one short sentence."' in page.text
    assert "runtime.save_steps" not in page.text, "a key that no stage has read"


def test_the_same_bytes_again_in_another_environment(results: Path) -> None:
    bytes_of = []
    for number, locale in enumerate(("C", "de_DE.UTF-8")):
        zone = ("UTC", "Asia/Tokyo")[number]
        surroundings = {"PYTHONHASHSEED": str(number + 1), "TZ": zone, "LC_ALL": locale, "PYTHONPATH": OURS}
        subprocess.run([sys.executable, "-m", "stages.report"], env={**os.environ, **surroundings}, check=True)
        bytes_of.append((HTML.read_bytes(), MARKDOWN.read_bytes()))
    assert bytes_of[0] == bytes_of[1]
    assert str(results).encode() not in bytes_of[0][0]


def test_torch_is_not_imported(results: Path) -> None:
    code = (
        "import sys; sys.argv = ['']; from stages.report import *; run_stage(main); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": OURS}, check=True)


def test_code_params_and_manifests_change_the_provenance(results: Path) -> None:
    before = report().text
    Path("models/adapter/SHA256SUMS").write_text("another\n", encoding="utf-8")
    after = report().text
    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(changed) == 1
    assert changed[0][0].startswith("models/adapter/SHA256SUMS")


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("results/metrics.json", "evaluate"),
        ("results/predictions.parquet", "evaluate"),
        ("results/virtual_tokens.json", "evaluate"),
        ("results/train/metrics.json", "train"),
        ("results/train/plots/metrics/validation/loss.tsv", "train"),
        ("results/prepare.json", "prepare"),
        ("results/tokenize.json", "tokenize"),
        ("models/base/SHA256SUMS", "fetch_model"),
        ("data/raw/source.json", "fetch_data"),
    ],
)
def test_a_missing_input_is_named_with_the_command_that_makes_it(results: Path, path: str, command: str) -> None:
    Path(path).unlink()
    with pytest.raises(SystemExit, match=f"^error: {path} is missing; make it with: dvc repro {command}$"):
        run_stage(main)
    assert not list(Path("results").glob("*report*")), "nothing is half written"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", '{"base": {}}'),
        ("metrics.json", "[1]"),
        ("prepare.json", "null"),
        ("predictions.parquet", "PAR"),
        ("train/metrics.json", '{"step": 1}'),
        ("train/metrics.json", '{"step": "x", "validation": 2.5}'),
        ("train/metrics.json", '{"step": 1, "validation": null}'),
        ("prepare.json", "[" * 100_000),
    ],
)
def test_an_unreadable_or_old_input_is_one_line(results: Path, name: str, content: str) -> None:
    Path("results", name).write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit, match=rf"^error: results/{name} .*make it (again )?with: dvc repro .*$"):
        run_stage(main)


def without_answers() -> dict[str, Any]:
    write_rows(Path(), make_rows(answered=0))
    return {"answers": None}


def test_without_answers_slices_general_and_virtual_tokens(results: Path) -> None:
    write_json(results, "metrics", {**make_metrics(), **without_answers(), "slices": [], "general": None})
    write_json(results, "virtual_tokens", {"tokens": []})
    page = report()
    for text in (
        "No answers were generated",
        "No row was answered",
        "too alike for slices",
        "There is nothing to compare",
    ):
        assert text in page.text
    assert "Not measured: general.source is null" in page.text
    assert "data/general" not in page.text


@pytest.mark.parametrize(
    ("verdict", "title"),
    [("harms", "The tuned prompt harms."), ("no evidence", "No evidence that the tuned prompt helps.")],
)
def test_each_verdict(results: Path, verdict: str, title: str) -> None:
    write_json(results, "metrics", {**make_metrics(), "verdict": verdict})
    assert title in report().text


def test_markdown_shows_texts_of_the_data_as_they_are(results: Path) -> None:
    run_stage(main)
    text = MARKDOWN.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    assert not re.search(r"<(?!/?code>)", text)
    html = MarkdownIt("commonmark").enable("table").render(text)
    cells = re.findall(r"<td>(.*?)</td>", html)
    assert "<code>&lt;b onclick=alert(1)&gt;|`@all`</code>" in cells


@pytest.mark.parametrize("text", [*NASTY, *SOURCES, "www.elsewhere.invalid", "a\n# b", "[x](y)", "*a* _b_ ~c~"])
def test_markdown_text_means_nothing_to_markdown(text: str) -> None:
    html = MarkdownIt("gfm-like", {"linkify": False}).render(f"| a |\n|---|\n| {markdown_text(text)} |\n")
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert page.text.split() == ["a", *visible(text).split()]


def test_the_side_of_a_difference() -> None:
    below, across = {"mean": -2.0, "low": -3.0, "high": -1.0}, {"mean": 0.5, "low": -1.0, "high": 2.0}
    assert [side(below), side(below, "higher"), side(below, "near 1"), side(across), side(None)] == [
        "better",
        "worse",
        "",
        "",
        "",
    ]


def test_json_of_params_is_that_of_the_checked_ones(results: Path) -> None:
    page = report()
    assert "data.columns.inputnull" in page.text
    assert f"model.sha256{json.dumps(load_params(ROOT / 'params.yaml').model.sha256)}" in page.text
