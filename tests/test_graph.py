"""dvc.yaml against the code: a stage depends on what it imports, and on nothing else."""

import ast
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from softprompt.config import Params
from softprompt.config.faults import known_keys
from tests.toy import ROOT, STAGES

GRAPH = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
# The others have their stage's name.
SECTIONS = {"fetch_model": "model", "fetch_data": "data", "fetch_general": "general"}
KEYS = {key for key, _ in known_keys(Params)}


def keys_of(param: str) -> set[str]:
    """The keys of params.yaml that an entry of `params` stands for: of a section, all."""
    return {key for key in KEYS if key == param or key.startswith(f"{param}.")}


def file_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    candidates = [path.with_suffix(".py"), path / "__init__.py"]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def imported(file: Path, seen: set[Path]) -> set[Path]:
    """The files of the library that `file` imports, at the top or late, and what those import."""
    if file in seen:
        return seen
    seen.add(file)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("softprompt.") and (found := file_of(name)):
                imported(found, seen)
    return seen


def dependency(file: Path) -> str:
    """What a stage that imports `file` of the library depends on: its room, of the room `data` the part of it."""
    parts = file.relative_to(ROOT).parts
    return "/".join(parts[: 3 if parts[1] == "data" else 2])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports(stage: str) -> None:
    """The check of the whole params.yaml (config/, but for the own section) is no dep: it changes no output."""
    own = ROOT / f"stages/{stage}.py"
    wanted = {dependency(file) for file in imported(own, set()) - {own}}
    wanted -= {"softprompt/config", "softprompt/data/__init__.py"}
    # Of a stage that reads keys of another section, that section's schema too.
    # (Of the model's, others read what concerns its loading, and take it for what torch and transformers say.)
    loading = {"model.dtype", "model.quantization", "model.tf32", "model.device_map"}
    keys = {key for param in GRAPH[stage]["params"] for key in keys_of(param)} - loading
    read = {key.split(".")[0] for key in keys if "." in key}
    wanted |= {f"stages/{stage}.py", *(f"softprompt/config/{section}.py" for section in read)}
    if stage == "report":  # it shows the hash of all code
        wanted = {"softprompt", "stages"}
    assert {dep for dep in GRAPH[stage]["deps"] if dep.startswith(("softprompt", "stages"))} == wanted


def declared(stage: str) -> list[str]:
    return [key for param in GRAPH[stage]["params"] for key in sorted(keys_of(param))]


def test_every_key_is_a_param_of_a_stage_and_every_param_is_a_key() -> None:
    """But for those of `runtime`, which change not one byte of what a stage writes."""
    assert all(keys_of(param) for stage in GRAPH.values() for param in stage["params"])
    found = {key for stage in GRAPH for key in declared(stage)}
    assert found == {key for key in KEYS if not key.startswith("runtime.")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_key_is_declared_once(stage: str) -> None:
    assert len(declared(stage)) == len(set(declared(stage)))


def test_the_report_reruns_for_every_param_that_it_shows() -> None:
    assert set(declared("report")) == {key for stage in GRAPH if stage != "report" for key in declared(stage)}


def test_stage_file_and_section_are_one_word() -> None:
    assert list(GRAPH) == list(STAGES)
    for stage, definition in GRAPH.items():
        assert definition["cmd"] == f"exec python -m stages.{stage}"
        if stage in ("local_sources", "report"):
            continue  # nothing about them can be chosen
        section = SECTIONS.get(stage, stage)
        assert any(param.split(".")[0] == section for param in definition["params"])
        assert section in Params.model_fields
