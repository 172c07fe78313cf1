"""Where the numbers come from: params, versions, and hashes of model, data and code. Nothing that differs by run."""

import json
from dataclasses import dataclass
from pathlib import Path

import softprompt
from softprompt.provenance.code import CODE, code_hash
from softprompt.provenance.graph import params_of
from softprompt.provenance.versions import TRAINING, versions_of
from softprompt.report.inputs import required
from softprompt.runtime.outputs import MANIFEST, sha256_of
from softprompt.runtime.paths import ADAPTER, BASE_MODEL, GENERAL, RAW
from softprompt.runtime.secrets import redacted

LIBRARIES = (*TRAINING, "tokenizers", "pandas", "pyarrow", "sacrebleu", "vl-convert-python", "dvc")


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


def provenance(*, general: bool) -> Provenance:
    """Of the results that lie here; `general`: whether out-of-domain text is among their inputs.

    Raises:
        InputError: if an input is missing.
    """
    fetched = {"model": (BASE_MODEL, "fetch_model"), "data": (RAW, "fetch_data")}
    if general:
        fetched["out-of-domain text"] = (GENERAL, "fetch_general")
    made = [*fetched.values(), (ADAPTER, "train")]
    return Provenance(
        sources={name: _source(required(folder / "source.json", stage)) for name, (folder, stage) in fetched.items()},
        hashes={
            **{f"{folder}/{MANIFEST}": sha256_of(required(folder / MANIFEST, stage)) for folder, stage in made},
            **{f"{folder}/**/*.py": code_hash(Path(softprompt.__path__[0]).parent / folder) for folder in CODE},
        },
        params=recorded_params(),
        versions=versions_of(LIBRARIES),
    )


def recorded_params() -> dict[str, str]:
    """The keys that the report depends on, as JSON: those that the stages before it have recorded."""
    values = params_of(["report"], Path())
    return {key: redacted(_json(value)) for key, value in values.items()}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _source(path: Path) -> dict[str, str]:
    values = json.loads(path.read_text(encoding="utf-8"))
    return {key: value if isinstance(value, str) else _json(value) for key, value in values.items()}
