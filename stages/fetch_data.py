"""Fetch an instruction data set to data/raw/: `python -m stages.fetch_data`, or `dvc repro fetch_data`."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

from softprompt.config import Params
from softprompt.config.data import Data
from softprompt.config.stage import run_stage
from softprompt.data.readers import Rows, Wanted, select_data_files
from softprompt.data.readers.splits import wanted_files
from softprompt.data.rows import RAW_SCHEMA
from softprompt.data.rows.parts import PART
from softprompt.runtime.errors import InputError
from softprompt.runtime.libraries import quiet_libraries
from softprompt.runtime.outputs import output_folder, write_json
from softprompt.runtime.paths import RAW
from softprompt.sources import fetched, local, of_source


def main(params: Params) -> None:
    """Write the rows, in the order of their sources, to data/raw/rows.parquet: those of `data.split`, and those of the
    validation and test splits where the data set, or another, has them. Bad rows too, with what is wrong with them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    quiet_libraries()
    data = params.data
    records = {}
    with output_folder(RAW) as folder:
        with pq.ParquetWriter(folder / "rows.parquet", RAW_SCHEMA) as writer:
            for source, wanted in _wanted(data).items():
                own, counts, bad = _of(source, data), dict.fromkeys((want.split for want in wanted), 0), 0
                files = partial(wanted_files, {want.key: want.slice for want in wanted}, own.subset)
                with fetched(own, "data", select_data_files, files, _key(wanted[0])) as found:
                    if own.subset is not None and not found.whole:
                        raise InputError(
                            "data.subset: single files have no subsets; set it to null, or name the data set"
                        )
                    rows = Rows(found, own, wanted)
                    for want in wanted:
                        for part in _parts(rows.rows(want)):
                            writer.write_table(pa.Table.from_pylist(part, schema=RAW_SCHEMA))
                            counts[want.split] += len(part)
                            bad += sum(bool(row["fault"]) for row in part)
                    record = {
                        **found.record,
                        "rows": rows.count,
                        "split": " and ".join(want.slice or "all" for want in wanted),
                    }
                records[source] = record
                # Slices may share rows: their sum can be more than there are.
                shares = counts.items() if len(counts) > 1 else ()
                read = (
                    " and ".join(f"{count:,} for {split}" for split, count in shares) or f"{counts[wanted[0].split]:,}"
                )
                note = f", {bad:,} of them bad (prepare says why)" if bad else ""
                print(
                    f"fetch_data: {record['source']}: {read} of {rows.count:,} rows in {RAW}/rows.parquet{note}",
                    flush=True,
                )
        first, *others = records.values()
        write_json(folder / "source.json", {**first, **({"others": others} if others else {})})


def _wanted(data: Data) -> dict[str, list[Wanted]]:
    """What is wanted of each source, the first of which is `data.source`; of two names of one, under the first."""
    wanted = {data.source: [Wanted("train", data.split, "data.split")]}
    names = {local.resolved(data.source): data.source}
    for split in ("validation", "test"):
        source, part = getattr(data, f"{split}_source"), getattr(data, f"{split}_split")
        if source or part:
            name = names.setdefault(local.resolved(source or data.source), source or data.source)
            wanted.setdefault(name, []).append(Wanted(split, part, f"data.{split}_split"))
    _check_names(data, set(names))
    return wanted


def _check_names(data: Data, sources: set[str]) -> None:
    """Refuse a mapping that names another source: a slip of the pen would leave the meant one at its default.

    Raises:
        InputError: naming it.
    """
    for key, known in (("revision", sources | set(map(local.repository, sources))), ("subset", sources)):
        value = getattr(data, key)
        for name in value if isinstance(value, dict) else ():
            if local.resolved(name) not in known:
                raise InputError(f"data.{key}: {name!r} is no source of data; they are {', '.join(sorted(sources))}")


def _key(wanted: Wanted) -> str:
    """The parameter that names the source."""
    return "source" if wanted.split == "train" else f"{wanted.split}_source"


def _of(source: str, data: Data) -> Data:
    """`data` of one of its sources: of a mapping what was written for it. Of what stands alone, a hash is of
    `data.source`, a revision of all of its repository, a subset of those of the two that have subsets."""
    first, own = local.resolved(data.source), local.resolved(source)
    repository = local.repository(first)
    alone = {
        "sha256": own == first,
        "revision": local.repository(own) == repository,
        "subset": own in (first, repository),
    }
    update: dict = {"source": source}
    for key, fits in alone.items():
        value = getattr(data, key)
        given = isinstance(value, dict) or fits
        update[key] = of_source(value, own, exact=key != "revision") if given else None
    return data.model_copy(update=update)


def _parts(rows: Iterator[dict]) -> Iterator[list[dict]]:
    while part := list(islice(rows, PART)):
        yield part


if __name__ == "__main__":
    run_stage(main, network=True)
