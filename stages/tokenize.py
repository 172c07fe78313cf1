"""Tokenize the splits to Arrow streams in data/tokenized/: `python -m stages.tokenize`, or `dvc repro tokenize`."""

import sys
from pathlib import Path
from typing import Any

from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.config.tokenize import Tokenize
from softprompt.data.templates.workers import NO_ROOM, encoder
from softprompt.data.templates.writing import write_split
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import output_folder, verified, write_json
from softprompt.runtime.paths import BASE_MODEL, PREPARED, RESULTS, SPLITS, TOKENIZED
from softprompt.runtime.progress import tqdm
from softprompt.runtime.text import read_text

BATCH = 1000  # rows of one task and of one Arrow batch: fixed, so that the bytes don't depend on the workers


def main(params: Params) -> None:
    """Write train, validation and test.arrow (streams that `datasets` maps), template.json and the token statistics."""
    import pyarrow.parquet as pq

    base, prepared = verified(BASE_MODEL, "fetch_model"), verified(PREPARED, "prepare")
    arguments, workers = _arguments(params.tokenize), params.runtime.workers
    report: dict[str, dict] = {}
    encoding = encoder(base, arguments, params.tokenize.max_length, workers)
    with encoding as (settings, max_length, encode), output_folder(TOKENIZED) as folder:
        for split in SPLITS:
            with pq.ParquetFile(prepared / f"{split}.parquet") as file:
                batches = encode(batch.to_pylist() for batch in file.iter_batches(BATCH))
                with tqdm(total=file.metadata.num_rows, desc=f"tokenize {split}", unit=" rows") as bar:
                    report[split] = write_split(folder / f"{split}.arrow", batches, bar)
            if not report[split]["rows"]:
                raise InputError(_all_dropped(f"{split}.parquet", report[split], max_length))
        # It goes on with the adapter, which is of no use without it.
        write_json(folder / "template.json", settings)
    totals = {name: sum(counts[name] for counts in report.values()) for name in ("truncated", "dropped")}
    longest = params.tokenize.max_length or max(counts["max"] for counts in report.values())
    # Of each split, since DVC makes a column of every number that is in no list.
    splits = [{"split": split, "max_length": longest, **counts} for split, counts in report.items()]
    write_json(RESULTS / "tokenize.json", {**totals, "splits": splits})
    for split, counts in report.items():
        print(
            f"tokenize: {split}: {counts['rows']:,} rows, {counts['tokens']:,} tokens, {counts['truncated']:,} answers "
            f"truncated, {counts['dropped']:,} rows dropped"
        )
        for told in counts["reasons"]:
            print(f"tokenize: {split}: {_shown(told)}", file=sys.stderr)


def _arguments(params: Tokenize) -> dict[str, Any]:
    """Those of `Template`: its settings, with the text of the file that `chat_template` names."""
    settings = params.model_dump(exclude={"max_length"})
    if path := params.chat_template:
        try:
            settings["chat_template"] = read_text(Path(path))
        except OSError as error:
            raise InputError(
                f"tokenize.chat_template: {path!r}: {error.strerror}; allowed: a file (relative paths start at the "
                "repository's root)"
            ) from None
    return settings


def _all_dropped(name: str, counts: dict, max_length: int | None) -> str:
    most = counts["reasons"][0]
    if most["reason"] == NO_ROOM:
        return (
            f"tokenize.max_length: {max_length} is too small for every question of {name}: the shortest takes "
            f"{counts['shortest_dropped']} tokens, and an answer at least one more"
        )
    return f"tokenize.template: it takes no row of {name}: {_shown(most)}"


def _shown(told: dict) -> str:
    rows = f"{told['rows']:,} {'rows' if told['rows'] > 1 else 'row'}{' dropped' if told['dropped'] else ''}"
    detail = f": {told['detail']}" if told["detail"] else ""
    return f"{rows}: {told['reason']}; the first is {told['examples'][0]}{detail}"


if __name__ == "__main__":
    run_stage(main)
