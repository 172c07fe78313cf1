"""What an adapter was made of, kept beside it as `origin.json`: it is of no use with another model or template."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

import softprompt
from softprompt.config.faults import describe
from softprompt.config.tokenize import Tokenize
from softprompt.provenance.code import code_of
from softprompt.provenance.graph import params_of
from softprompt.provenance.versions import TRAINING, VERSION, versions_of
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import fingerprint, write_json
from softprompt.runtime.paths import BASE_MODEL, TOKENIZED

ORIGIN = "origin.json"
SCHEMA: Literal[2] = 2
# What earlier files, which name no schema, meant by a key that they lack; each had the other four. The first of them
# recorded neither code, params, rows nor versions: an empty value, or null, is what isn't known.
EARLIER: dict[str, Any] = {
    "version": None,
    "rows_sha256": None,
    "chat_template": None,  # the model's own
    "chat_template_kwargs": {},
    "date": "2026-01-01",  # they took the day of the run, and noted it nowhere; this is tokenize.date's default
    "fold_system": False,
    "params": {},
    "code": {},
    "versions": {},
    "chosen": {},
    "demonstrations": [],
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What `origin.json` says: all that the trained prompt depends on.

    Attributes:
        schema: of the file; a change of its keys is another one.
        version: of softprompt, which made the adapter; None: not known.
        base_model: `source` of the base model.
        base_sha256: of its bytes, see `base_hash`.
        rows_sha256: of the tokenized rows' bytes; None: not known.
        template: `tokenize.template` of the rows.
        system: their `tokenize.system`.
        chat_template: their chat template in Jinja, the model's own or another; None where `template` is literal, and
            of an earlier adapter, for the model's own.
        chat_template_kwargs: their `tokenize.chat_template_kwargs`.
        date: their `tokenize.date`.
        fold_system: their `tokenize.fold_system`.
        params: key of params.yaml -> value, of those that `train` reads.
        code: file or folder of code that `train` depends on -> SHA-256.
        versions: library -> version.
        chosen: key of params.yaml -> what its value `auto` came to, where a trial of the machine chose.
        demonstrations: example_id of each training row that the prompt began as; it was not trained on them.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")  # for what is read from a file

    schema: Literal[2] = SCHEMA
    version: str | None
    base_model: str
    base_sha256: str
    rows_sha256: str | None
    template: str
    system: str | None
    chat_template: str | None
    chat_template_kwargs: dict[str, Any]
    date: str
    fold_system: bool
    params: dict[str, Any]
    code: dict[str, str]
    versions: dict[str, str]
    chosen: dict[str, str] = field(default_factory=dict)
    demonstrations: list[str] = field(default_factory=list)

    @property
    def template_settings(self) -> dict[str, Any]:
        """`softprompt.data.templates.Template.settings` of the rows."""
        names = ("template", "system", "chat_template", "chat_template_kwargs", "date", "fold_system")
        return {name: getattr(self, name) for name in names}


def base_hash(base: Path) -> str:
    """Hash of all bytes of the base model, wherever it came from."""
    return fingerprint(base, "source.json")


def origin_of_a_run(root: Path = Path(), code: Path | None = None) -> Origin:
    """What a training run in the repository `root` is made of; `code`: its code, if not the imported one."""
    base, tokenized = root / BASE_MODEL, root / TOKENIZED
    source = json.loads((base / "source.json").read_text(encoding="utf-8"))["source"]
    return Origin(
        version=VERSION,
        base_model=source,
        base_sha256=base_hash(base),
        rows_sha256=fingerprint(tokenized),
        **json.loads((tokenized / "template.json").read_text(encoding="utf-8")),
        params=params_of(["train"], root),
        code=code_of("train", root, code or Path(softprompt.__path__[0]).parent),
        versions=versions_of(TRAINING),
    )


def write_origin(folder: Path, origin: Origin) -> None:
    """Write origin.json of an adapter."""
    write_json(folder / ORIGIN, asdict(origin))


def load_origin(adapter: Path) -> Origin:
    """origin.json of `adapter`.

    Raises:
        InputError: if it is missing, not whole, of a later schema, or has settings of a template that `tokenize` in
            params.yaml could not have.
    """
    path = adapter / ORIGIN
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and "schema" not in values:
            values = {**EARLIER, **values, "schema": SCHEMA}
        _refuse_later(path, values)
        origin = TypeAdapter(Origin).validate_json(json.dumps(values))
        _check_template(origin)
        return origin
    except FileNotFoundError:
        raise InputError(f"{path} is missing: only adapters that this pipeline's train stage wrote are taken") from None
    except ValidationError as error:
        faults = (": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in error.errors())
        fault = "; ".join(faults)
    except (ValueError, RecursionError) as error:
        fault = str(error)
    raise InputError(f"{path} is not what the train stage writes ({fault}); copy the adapter again, or tune it again")


def _check_template(origin: Origin) -> None:
    # A backslash and n is refused in params.yaml alone: earlier adapters may have been tuned with it.
    texts = {name: value for name, value in origin.template_settings.items() if isinstance(value, str)}
    settings = {**origin.template_settings, **{name: text.replace("\\n", "\n") for name, text in texts.items()}}
    try:
        Tokenize.model_validate({**settings, "max_length": None})
    except ValidationError as error:
        raise ValueError("; ".join(describe(error, Tokenize))) from None


def _refuse_later(path: Path, values: Any) -> None:
    schema = values.get("schema") if isinstance(values, dict) else None
    if type(schema) is int and schema > SCHEMA:
        wrote = values.get("version")
        raise InputError(
            f"{path} has schema {schema}, and softprompt {VERSION} reads schemas up to {SCHEMA}; needed: softprompt "
            f"{wrote if isinstance(wrote, str) else 'of a later release'}, which wrote it, or a later one"
        )


def read_origin(adapter: Path, base: Path) -> Origin:
    """origin.json of `adapter`, which was tuned on `base`.

    Raises:
        InputError: if it was tuned on another model, or does not say on which.
    """
    origin = load_origin(adapter)
    if origin.base_sha256 != (here := base_hash(base)):
        raise InputError(
            f"{adapter} was tuned on another model: on {origin.base_model} with the hash {origin.base_sha256[:12]}, "
            f"and {base} has {here[:12]}; bring the model back that it was tuned on (model.source, then: dvc repro "
            "fetch_model), or tune a prompt on this one (dvc repro train)"
        )
    return origin
