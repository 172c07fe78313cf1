"""Fetch a causal language model to models/base/: `python -m stages.fetch_model`, or `dvc repro fetch_model`."""

from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.runtime.libraries import load_libraries
from softprompt.runtime.outputs import output_folder, write_json
from softprompt.runtime.paths import BASE_MODEL
from softprompt.runtime.progress import steps
from softprompt.sources import fetched
from softprompt.sources.checkpoint import check_checkpoint, copy_checkpoint, dequantise_gguf, select_model_files


def main(params: Params) -> None:
    """Write config.json, safetensors, tokenizer files and source.json to models/base/."""
    with fetched(params.model, "model", select_model_files) as found:
        load_libraries()
        with output_folder(BASE_MODEL) as folder, steps("fetch_model", total=4) as progress:
            if found.files[0].suffix == ".gguf":
                dequantise_gguf(found.files[0], folder, progress)
            else:
                progress("copying")
                copy_checkpoint(found.files, folder)
            progress("checking")
            check_checkpoint(folder)
            write_json(folder / "source.json", found.record)
    size = sum(path.stat().st_size for path in BASE_MODEL.glob("*.safetensors"))
    print(f"fetch_model: {found.record['source']}: {size / 1e6:.0f} MB of weights in {BASE_MODEL}/")


if __name__ == "__main__":
    run_stage(main, network=True)
