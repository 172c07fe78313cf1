"""dvc.yaml and params.yaml as DVC reads them, for what a stage has recorded."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def parse_yaml(text: str | bytes) -> Any:
    """YAML (version 1.2, as DVC reads it) as plain values."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def read_yaml(path: Path) -> Any:
    """`parse_yaml` of a file."""
    return parse_yaml(path.read_text(encoding="utf-8-sig"))


def stages_of(root: Path) -> dict[str, Any]:
    """The stages of the dvc.yaml in `root`, in its order."""
    return read_yaml(root / "dvc.yaml")["stages"]


def params_of(stages: Iterable[str], root: Path) -> dict[str, Any]:
    """Key -> value of the params that `stages` declare, in the order of dvc.yaml in `root`; of a section, all its keys.

    Of a params.yaml that lacks a key, which an older one may, the value is None.
    """
    graph, values = stages_of(root), read_yaml(root / "params.yaml")
    keys = dict.fromkeys(key for stage in stages for key in graph[stage].get("params", []))
    declared = {key: functools.reduce(lambda at, name: (at or {}).get(name), key.split("."), values) for key in keys}
    return {key: value for name, group in declared.items() for key, value in single_keys(name, group)}


def single_keys(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Each dotted key of the section `name` with its value; `name` itself where it is no section.

    A section's keys are names, and sorted, since their order in params.yaml means nothing. Those of a mapping of
    checksums are addresses: it is one value.
    """
    if isinstance(value, dict) and value and all(str(key).isidentifier() for key in value):
        for key in sorted(value):
            yield from single_keys(f"{name}.{key}", value[key])
    else:
        yield name, value


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each dotted key with its value, in order, as DVC shows params: a mapping in a mapping is never one value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def broken_links(root: Path, stage: str) -> list[str]:
    """What `stage`, or one before it, has read with other bytes than another has written, by the dvc.lock in `root`."""
    return [
        f"{reader} has read another {path} than {writer} has written: run dvc repro"
        for reader, path, writer, is_same in links(read_yaml(root / "dvc.lock")["stages"], stage)
        if not is_same
    ]


def links(locked: Mapping[str, Any], stage: str) -> Iterator[tuple[str, str, str, bool]]:
    """What `stage`, and each one before it, has read of another: reader, path, writer, and whether the bytes are its.

    `locked`: the stages of a dvc.lock.
    """
    writers = {out["path"]: (name, out["md5"]) for name, entry in locked.items() for out in entry.get("outs", [])}
    reached = [stage]
    for reader in reached:  # which grows by the stages that wrote what it reads
        for dep in locked.get(reader, {}).get("deps", []):
            if dep["path"] in writers:
                writer, digest = writers[dep["path"]]
                yield reader, dep["path"], writer, dep["md5"] == digest
                if writer not in reached:
                    reached.append(writer)
