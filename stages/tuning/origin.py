"""What an adapter was tuned on, kept beside it as `origin.json`: it is of no use with another model or template."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.workspace.errors import InputError
from stages.workspace.outputs import fingerprint, write_json

ORIGIN = "origin.json"


@dataclass(frozen=True)
class Origin:
    """What `origin.json` says.

    Attributes:
        base_model: `source` of the base model.
        base_sha256: of its bytes, see `base_hash`.
        template: `tokenize.template` of the rows that it was tuned on.
        system: their `tokenize.system`.
    """

    base_model: str
    base_sha256: str
    template: str
    system: str | None


def base_hash(base: Path) -> str:
    """Hash of all bytes of the base model, wherever it came from."""
    return fingerprint(base, "source.json")


def write_origin(folder: Path, base: Path, tokenized: Path) -> None:
    """Write origin.json of an adapter that was tuned on the base model `base` and the rows in `tokenized`."""
    source = json.loads((base / "source.json").read_text(encoding="utf-8"))["source"]
    template = json.loads((tokenized / "template.json").read_text(encoding="utf-8"))
    write_json(folder / ORIGIN, asdict(Origin(source, base_hash(base), **template)))


def read_origin(adapter: Path, base: Path) -> Origin:
    """origin.json of `adapter`, which was tuned on `base`.

    Raises:
        InputError: if it was tuned on another model, or does not say on which.
    """
    path = adapter / ORIGIN
    try:
        origin = Origin(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: only adapters that this pipeline's train stage wrote are taken") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is not what the train stage writes: {error}") from None
    if origin.base_sha256 != (here := base_hash(base)):
        raise InputError(
            f"{adapter} was tuned on another model: on {origin.base_model} with the hash {origin.base_sha256[:12]}, "
            f"and {base} has {here[:12]}; bring the model back that it was tuned on (model.source, then: dvc repro "
            "fetch_model), or tune a prompt on this one (dvc repro train)"
        )
    return origin
