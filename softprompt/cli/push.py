"""`softprompt push`: an adapter, its card and its report on the Hugging Face hub, in one commit."""

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from softprompt.cli.hub import ADAPTER_FILES, CARD, NAME, PUBLISHED, REPORT_FILES, SCHEME, explained
from softprompt.cli.loading import check_adapter, enter_repository
from softprompt.cli.lock import check_lock
from softprompt.cli.options import Adapter
from softprompt.provenance.origin import ORIGIN, Origin, load_origin
from softprompt.provenance.versions import VERSION
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import MANIFEST, output_folder, verified
from softprompt.runtime.paths import ADAPTER, RESULTS
from softprompt.runtime.text import is_text
from softprompt.sources.repository import COMMIT

ADDED = "## How questions have to be put"  # where the part of the card begins that push writes


def push(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; it is made if need be.")],
    *,
    adapter: Adapter = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be uploaded, and ask no network.", show_default=False)
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Only for you, or your organization.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Commit to this branch; it is made if need be.")
    ] = None,
    message: Annotated[str, typer.Option(help="Of the commit.")] = f"Upload from softprompt {VERSION}",
) -> None:
    """Upload an adapter to the Hugging Face hub.

    It goes with its card and, where results/ is of this adapter by dvc.lock, with the results in the card and the
    report. All of it is one commit, so that nobody gets half of it. --adapter hf://OWNER/NAME then takes it anywhere.

    The token is that of `hf auth login` or of HF_TOKEN; HF_ENDPOINT names another hub.
    """
    address = f"{SCHEME}{repository}"
    if NAME.fullmatch(repository) is None:
        raise InputError(f"{repository!r} is no name of a repository; allowed: OWNER/NAME")
    if not message.strip():
        raise InputError("--message is empty; allowed: at least one character")
    if not is_text(message):
        raise InputError(f"--message: {message!r} is not allowed; allowed: text in UTF-8")
    if revision is not None and (not revision.strip() or not is_text(revision) or COMMIT.fullmatch(revision)):
        raise InputError(f"--revision: {revision!r} is not allowed; allowed: the name of a branch")
    enter_repository()
    with explained(address, "write"):
        from huggingface_hub.utils import validate_repo_id

        validate_repo_id(repository)
    with tempfile.TemporaryDirectory(prefix="softprompt-") as scratch:
        folder = Path(scratch) / "adapter"
        _fill(folder, address, adapter)
        if dry_run:
            for file in sorted(folder.iterdir()):
                print(f"{file.stat().st_size:>12,}  {file.name}")
            print(f"{address}{f'@{revision}' if revision else ''}: nothing is uploaded (--dry-run)")
            return
        commit = _upload(folder, repository, private, revision, message)
    print(f'{address} is at commit {commit}; softprompt generate --adapter {address}@{commit} "…"')


def _fill(folder: Path, address: str, adapter: Path | None) -> None:
    """Write to `folder` what is uploaded, with a manifest of its own: the card is another than the adapter's.

    Raises:
        InputError: if the adapter is missing, damaged, or not the one of dvc.lock.
    """
    if adapter is None:
        source = verified(ADAPTER, "train")
        check_lock(ADAPTER)
    else:
        source = adapter
        check_adapter(source)
    results = _results() if source.resolve() == ADAPTER.resolve() else None
    origin = load_origin(source)
    with output_folder(folder) as partial:
        for name in ADAPTER_FILES:
            shutil.copy(source / name, partial / name)
        card = (source / CARD).read_text(encoding="utf-8") if (source / CARD).is_file() else ""
        (partial / CARD).write_text(_card(card, origin, address, results), encoding="utf-8")
        for name in REPORT_FILES if results is not None else ():
            shutil.copy(RESULTS / name, partial / name)


def _card(card: str, origin: Origin, address: str, results: str | None) -> str:
    """The adapter's card, with how questions have to be put and what was measured; of a published one, written anew."""
    settings = {name: value for name, value in origin.template_settings.items() if name != "chat_template"}
    shown = json.dumps(settings, indent=2, ensure_ascii=False)
    fence = max(["``", *re.findall("`+", shown)], key=len) + "`"  # longer than any in a text
    measured = "No results were published with this adapter."
    if results is not None:
        measured = f"{results}\n\n`report.html` has the evidence, and `report.md` is its short form."
    return f"""{card.partition(ADDED)[0].rstrip()}

{ADDED}

In a repository of softprompt whose `models/base` is the same model:

```bash
softprompt generate --adapter {address} "What is a computer?"
```

Elsewhere, these settings say how. They are those of `tokenize` in params.yaml. With the template `chat`, a question is
a turn in the chat template that `origin.json` has as `chat_template`; `system` null is that template's own system turn.

{fence}json
{shown}
{fence}

PEFT takes `{address.removeprefix(SCHEME)}` in place of the adapter's folder.

## Results

{measured}
"""


def _results() -> str | None:
    """The results as a table in Markdown; None, and why, where results/ has none of models/adapter."""
    from softprompt.evaluation.headline import headline
    from softprompt.evaluation.names import tuned_name
    from softprompt.evaluation.recorded import METRICS, read_metrics
    from softprompt.provenance.graph import broken_links

    try:
        check_lock(ADAPTER, METRICS, *(RESULTS / name for name in REPORT_FILES))
        if faults := broken_links(Path(), "report"):
            raise InputError(*faults)
        metrics = read_metrics()
    except InputError as error:
        why = "; ".join(str(error).splitlines())
        typer.echo(f"note: without results and report: {why}", err=True)
        return None
    return headline(metrics, tuned_name(metrics["prompts"]["tuned"]["tokens"]))


def _upload(folder: Path, repository: str, private: bool, revision: str | None, message: str) -> str:
    """Commit all of `folder` at once, and remove what an earlier push left beside it; the commit's hash.

    `upload_folder` would make several commits of it where the hub's newer storage is installed.

    Raises:
        InputError: if there is no token, the hub refuses, or the repository holds something else.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
    from huggingface_hub.errors import RevisionNotFoundError

    api, address = HfApi(), f"{SCHEME}{repository}"
    if get_token() is None:
        raise InputError(f"{address} needs a token that may write: log in (hf auth login) or set HF_TOKEN to one")
    with explained(address, "write"):
        api.create_repo(repository, private=private or None, exist_ok=True)
        try:
            info = api.model_info(repository, revision=revision)
        except RevisionNotFoundError:
            info = api.model_info(repository)
        if private and not info.private:
            raise InputError(f"{address} exists and is public; leave out --private, or name another repository")
        there = [file.rfilename for file in info.siblings or []]
        _check_files(address, there)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        stale = [name for name in there if name in PUBLISHED and not (folder / name).exists()]
        deleted = [CommitOperationDelete(path_in_repo=name) for name in stale]
        added = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in sorted(folder.iterdir())]
        commit = api.create_commit(
            repository,
            [*deleted, *added],
            commit_message=message,
            revision=revision,
            parent_commit=info.sha,  # the hub refuses where somebody has written meanwhile
        )
        return commit.oid


def _check_files(address: str, there: list[str]) -> None:
    """Refuse a repository that has files, and not those of an earlier push."""
    files = sorted({*there} - {".gitattributes"})  # which the hub itself puts into a new one
    if files and not {ORIGIN, MANIFEST} <= {*files}:
        named = ", ".join([*files[:3], *(["…"] if files[3:] else [])])
        raise InputError(
            f"{address} holds something else ({named}); name a new repository, which push makes, or remove these files"
        )
