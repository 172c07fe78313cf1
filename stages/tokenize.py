"""Tokenize the splits to Arrow streams in data/tokenized/: `python -m stages.tokenize`, or `dvc repro tokenize`."""

from pathlib import Path

from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.data.templates.workers import encoder
from softprompt.data.templates.writing import write_split
from softprompt.data.tokens import context_of
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import output_folder, verified, write_json
from softprompt.runtime.paths import BASE_MODEL, PREPARED, RESULTS, SPLITS, TOKENIZED
from softprompt.runtime.progress import tqdm

BATCH = 1000  # rows of one task and of one Arrow batch: fixed, so that the bytes don't depend on the workers


def main(params: Params) -> None:
    """Write train, validation and test.arrow (streams that `datasets` maps), template.json and the token statistics."""
    import pyarrow.parquet as pq

    base, prepared = verified(BASE_MODEL, "fetch_model"), verified(PREPARED, "prepare")
    report: dict[str, dict] = {}
    max_length = params.tokenize.max_length or _context(base)
    settings = params.tokenize.model_copy(update={"max_length": max_length})
    with encoder(base, settings, params.runtime.workers) as encode, output_folder(TOKENIZED) as folder:
        for split in SPLITS:
            with pq.ParquetFile(prepared / f"{split}.parquet") as file:
                batches = encode(batch.to_pylist() for batch in file.iter_batches(BATCH))
                with tqdm(total=file.metadata.num_rows, desc=f"tokenize {split}", unit=" rows") as bar:
                    report[split] = write_split(folder / f"{split}.arrow", batches, bar)
            if not report[split]["rows"]:
                shortest = report[split]["shortest_dropped"]
                raise InputError(
                    f"tokenize.max_length: {max_length} is too small for every question of "
                    f"{split}.parquet: the shortest takes {shortest} tokens, and an answer at least one more"
                )
        # It goes on with the adapter, which is of no use without it.
        write_json(folder / "template.json", settings.model_dump(include={"template", "system"}))
    totals = {name: sum(counts[name] for counts in report.values()) for name in ("truncated", "dropped")}
    longest = params.tokenize.max_length or max(counts["max"] for counts in report.values())
    # Of each split, since DVC makes a column of every number that is in no list.
    splits = [{"split": split, "max_length": longest, **counts} for split, counts in report.items()]
    write_json(RESULTS / "tokenize.json", {**totals, "splits": splits})
    for split, counts in report.items():
        print(
            f"tokenize: {split}: {counts['rows']:,} rows, {counts['tokens']:,} tokens, {counts['truncated']:,} answers "
            f"truncated, {counts['dropped']:,} rows dropped (no room for a label)"
        )


def _context(base: Path) -> int | None:
    from transformers import AutoConfig

    return context_of(AutoConfig.from_pretrained(base))


if __name__ == "__main__":
    run_stage(main)
