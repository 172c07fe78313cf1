"""Where the numbers come from: params, versions, and hashes of model, data and code. Nothing that differs by run."""

import functools
import hashlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path

import stages
from stages.page.inputs import required
from stages.params import Params
from stages.params.section import Section
from stages.workspace.outputs import MANIFEST, sha256_of
from stages.workspace.paths import ADAPTER, BASE_MODEL, GENERAL, RAW

GRAPH = Path("dvc.yaml")
LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "pyarrow",
    "sacrebleu",
    "vl-convert-python",
    "dvc",
)


@dataclass(frozen=True)
class Provenance:
    """Names with values, in the order in which they are shown.

    Attributes:
        sources: what model and data are: the keys of each source.json.
        hashes: SHA-256 of each output folder's manifest, and of the code.
        params: key of params.yaml -> its value as JSON.
        versions: library -> version.
    """

    sources: dict[str, dict[str, str]]
    hashes: dict[str, str]
    params: dict[str, str]
    versions: dict[str, str]


def provenance(params: Params, *, general: bool) -> Provenance:
    """Of the results that lie here; `general`: whether text that is not of the task is among their inputs.

    Raises:
        InputError: if an input is missing.
    """
    fetched = {"model": (BASE_MODEL, "fetch_model"), "data": (RAW, "fetch_data")}
    if general:
        fetched["general text"] = (GENERAL, "fetch_general")
    made = [*fetched.values(), (ADAPTER, "train")]
    return Provenance(
        sources={name: _source(required(folder / "source.json", stage)) for name, (folder, stage) in fetched.items()},
        hashes={
            **{f"{folder}/{MANIFEST}": sha256_of(required(folder / MANIFEST, stage)) for folder, stage in made},
            "stages/**/*.py": code_hash(Path(stages.__path__[0])),
        },
        params=recorded_params(params),
        versions={"python": platform.python_version()}
        | {library: importlib.metadata.version(library) for library in LIBRARIES},
    )


def code_hash(folder: Path) -> str:
    """SHA-256 over the lines "SHA-256  name" of every Python file in `folder`, sorted by name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def recorded_params(params: Params) -> dict[str, str]:
    """The keys that the stages up to the report have recorded, as JSON; other keys have changed nothing here."""
    from ruamel.yaml import YAML

    graph = YAML(typ="safe", pure=True).load(required(GRAPH, "report").read_text(encoding="utf-8"))["stages"]
    keys = [key for name, stage in graph.items() if name != "report" for key in stage.get("params", [])]
    return {key: _json(functools.reduce(getattr, key.split("."), params)) for key in dict.fromkeys(keys)}


def _json(value: object) -> str:
    return json.dumps(value.model_dump() if isinstance(value, Section) else value, ensure_ascii=False)


def _source(path: Path) -> dict[str, str]:
    values = json.loads(path.read_text(encoding="utf-8"))
    return {key: value if isinstance(value, str) else _json(value) for key, value in values.items()}
