"""Remove what is damaged, so that DVC makes it again: `python -m stages.workspace.repair` (`make repair`).

DVC takes a read-only object of its cache for good, without hashing it again. This hashes every object, removes those
whose bytes are not the ones that their name promises, and removes the outputs that a manifest shows as damaged.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

from stages.workspace.guard import exit_on_input_error
from stages.workspace.outputs import MANIFEST, faults_in
from stages.workspace.paths import ADAPTER, BASE_MODEL, PREPARED, RAW, TOKENIZED
from stages.workspace.progress import tqdm


def remove_damaged_objects(cache: Path) -> list[Path]:
    """Remove the objects of a DVC 3 cache (`XX/YYYY…`, named by their MD5) that don't match their name."""
    removed = []
    for path in tqdm(sorted(cache.glob("??/*")), desc="hashing the cache"):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "md5").hexdigest()
        if path.parent.name + path.name.removesuffix(".dir") != digest:
            path.unlink()
            removed.append(path)
    return removed


def main() -> None:
    """Remove damaged cache objects and outputs, and say what was removed."""
    cache = Path(subprocess.run(["dvc", "cache", "dir"], check=True, capture_output=True, text=True).stdout.strip())
    removed = remove_damaged_objects(cache / "files" / "md5")
    for folder in (BASE_MODEL, RAW, PREPARED, TOKENIZED, ADAPTER):
        if (folder / MANIFEST).is_file() and faults_in(folder):
            shutil.rmtree(folder)
            removed.append(folder)
    for path in removed:
        print(f"removed {path}")
    print(f"{len(removed)} damaged; `make repro` makes them again" if removed else "nothing is damaged")


if __name__ == "__main__":
    with exit_on_input_error():
        main()
