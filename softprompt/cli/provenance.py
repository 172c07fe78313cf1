"""`softprompt provenance`: what an adapter was made of, held against what lies here."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from softprompt.cli.hub import SCHEME, fetched
from softprompt.cli.loading import check_adapter, enter_repository
from softprompt.cli.lock import WORKSPACE, check_lock, tree_of
from softprompt.provenance.code import CODE
from softprompt.runtime.errors import InputError
from softprompt.runtime.markdown import table
from softprompt.runtime.outputs import verified
from softprompt.runtime.paths import ADAPTER, BASE_MODEL, RAW, TOKENIZED

FILES = (Path("dvc.lock"), Path("dvc.yaml"), Path("params.yaml"), *map(Path, CODE))
COLUMNS = ("what", "made with", "here")
SAME = "same"
DIGITS = 12  # of a hash that is shown


def provenance(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]", help="A folder, hf://OWNER/NAME, an experiment, a git revision, or workspace."
        ),
    ] = WORKSPACE,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for machines.")] = False,
) -> None:
    """Say what made an adapter, and verify it.

    Code, params, bytes of the model and of the rows, and versions of libraries are those that the adapter names
    (origin.json). They are held against what lies here; of an experiment, branch, tag or commit, against its own code,
    params and outputs, which come from DVC's cache. Every file of the adapter, the model and the rows is hashed.

    Exit status 1 where anything differs: training would give another prompt.
    """
    here = Path.cwd()
    enter_repository()
    with _adapter_and_tree(name, here) as (adapter, tree):
        lines = _held_against(adapter, tree)
    differing = [line["what"] for line in lines if line["here"] != SAME]
    if as_json:
        print(json.dumps({"name": name, "verified": not differing, "made_of": lines}, indent=2, ensure_ascii=False))
    else:
        print(table([list(COLUMNS), *(list(line.values()) for line in lines)], texts=len(COLUMNS)))
    if differing:
        raise InputError(
            f"{name}: {len(differing)} of {len(lines)} are not the same here ({', '.join(differing)}): training would "
            "give another prompt; softprompt provenance REVISION holds one against its own code and params"
        )


@contextmanager
def _adapter_and_tree(name: str, here: Path) -> Iterator[tuple[Path, Path]]:
    """The adapter's folder, and that of the repository as it was where `name` is a revision."""
    if name == WORKSPACE:
        check_lock(verified(ADAPTER, "train"))
        yield ADAPTER, Path()
    elif name.startswith(SCHEME):
        yield fetched(name), Path()
    elif (here / name).is_dir():
        check_adapter(here / name)
        yield here / name, Path()
    else:
        with tempfile.TemporaryDirectory(prefix="softprompt-") as scratch:
            tree = tree_of(name, Path(scratch), ADAPTER, BASE_MODEL, RAW, TOKENIZED, files=FILES)
            yield verified(tree / ADAPTER, "train"), tree


def _held_against(adapter: Path, tree: Path) -> list[dict[str, str]]:
    """What `adapter` was made of, a line each, and whether the repository in `tree` has the same."""
    from softprompt.provenance.graph import broken_links
    from softprompt.provenance.origin import load_origin, origin_of_a_run

    for folder, stage in ((BASE_MODEL, "fetch_model"), (RAW, "fetch_data"), (TOKENIZED, "tokenize")):
        verified(tree / folder, stage)
    made, found = load_origin(adapter), origin_of_a_run(tree, tree)
    source = json.loads((tree / RAW / "source.json").read_text(encoding="utf-8"))["source"]
    lines = [
        _line("softprompt", made.version, found.version),
        _line("model", made.base_model, found.base_model),
        _line("model, SHA-256", made.base_sha256, found.base_sha256),
        _line("rows, SHA-256", made.rows_sha256, found.rows_sha256),
        {"what": "rows, from", "made with": source, "here": "; ".join(broken_links(tree, "train")) or SAME},
    ]
    for there, now in ((made.params, found.params), (made.code, found.code), (made.versions, found.versions)):
        lines += [_line(what, there.get(what), now.get(what)) for what in there | now]
    # Not tried here: where the param isn't `auto` any more, its own line says so.
    lines += [{"what": f"{key}, by auto", "made with": value, "here": SAME} for key, value in made.chosen.items()]
    return lines


def _line(what: str, made: Any, found: Any) -> dict[str, str]:
    return dict(zip(COLUMNS, (what, _shown(made), SAME if made == found else _shown(found)), strict=True))


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text[:DIGITS] if len(text) == 64 else text
