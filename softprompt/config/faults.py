"""pydantic's list of errors as lines for people: key, value received, what is allowed, nearest known key."""

import difflib
import json
from collections.abc import Iterator
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from softprompt.runtime.secrets import redacted

WHAT = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "model_type": "a section with keys of its own",
    "string_too_short": "a text that is not empty",
    "list_type": "a list in brackets, […]",
}
# Keys that were elsewhere or had another name: what an older params.yaml has.
RENAMED = {
    "launch": "launcher",
    "prepare.max_rows": "prepare.max_samples",
    "train.optimizer": "train.optim",
    "train.schedule": "train.lr_scheduler_type",
    "train.epochs": "train.num_train_epochs",
    "train.accumulation_steps": "train.gradient_accumulation_steps",
    "train.clip_norm": "train.max_grad_norm",
    "train.evaluate_every": "train.eval_steps",
    "train.patience": "train.early_stopping_patience",
    "train.save_every": "runtime.save_steps",
    "tokenize.workers": "runtime.workers",
    "evaluate.require": "runtime.require",
}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def known_keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key that `model` knows, with its field; sections themselves are left out."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def describe(error: ValidationError, model: type[BaseModel], most: int | None = None) -> list[str]:
    """One line for each key at fault in `error`, in the order of the schema; of the first `most` faults alone."""
    fields = dict(known_keys(model))
    lines: dict[str, str] = {}
    for fault in error.errors()[:most]:
        path = ".".join(str(part) for part in fault["loc"])
        # pydantic appends the member of a union ("int" of `int | None`), which is no part of the key.
        key = next((known for known in fields if path == known or path.startswith(f"{known}.")), path)
        if key in lines:
            continue
        if key in RENAMED:
            lines[key] = f"{key}: now {RENAMED[key]}; move its value there"
        elif fault["type"] in ("extra_forbidden", "invalid_key"):
            lines[key] = f"{key}: unknown key; {_nearest(key, list(fields))}"
        elif fault["type"] == "missing":
            lines[key] = f"{key}: missing; every key has to be there"
        else:
            lines[key] = f"{key}: {shown(fault['input'])} is not allowed; allowed: {_allowed(fault)}"
            # A rule across keys says itself where null is allowed.
            if fault["type"] != "value_error" and key in fields and NoneType in get_args(fields[key].annotation):
                lines[key] += ", or null"
    return list(lines.values())


def _nearest(key: str, keys: list[str]) -> str:
    """The known key that was probably meant: one of the same section, else one of the same name, else one alike."""
    section, _, name = key.rpartition(".")
    sections = dict.fromkeys(known.rpartition(".")[0] for known in keys if "." in known)
    paths = [*sections, *keys]
    siblings = {path.rpartition(".")[2]: path for path in paths if path.rpartition(".")[0] == section}
    anywhere = {path.rpartition(".")[2]: path for path in reversed(paths)}
    for candidates in (siblings, anywhere):
        if near := difflib.get_close_matches(name, candidates, n=1):
            return f"did you mean {candidates[near[0]]}?"
    return "known here: " + ", ".join(siblings.values())


def shown(value: Any) -> str:
    """A value as JSON, shortened and without secrets."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = str(value)
    text = redacted(text)  # before it is cut: half an address would keep its password
    return text if len(text) <= 60 else text[:57] + "…"


def _allowed(fault: Any) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "literal_error":
        return context["expected"].replace("'", "").replace("True", "true").replace("False", "false")
    if kind == "value_error":
        return str(context["error"])
    for bound, words in BOUNDS.items():
        if bound in context:
            return f"{words} {context[bound]:.12g}"
    return WHAT.get(kind, fault["msg"])
