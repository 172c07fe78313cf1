"""The latest families of models, by the configurations that they are published with.

In `configurations/NAME.json` sizes are scaled down, tokens are those of the toy's tokenizer, and `initializer_range` is
0.1: with 0.02, all of so small a model's tokens are alike.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

# Keys of the tokens that stand for pictures and sounds: the model has embeddings of them, the toy's tokenizer hasn't.
PICTURES = (
    "image_token_index",
    "boi_token_index",
    "eoi_token_index",
    "image_token_id",
    "video_token_id",
    "audio_token_id",
)
PUBLISHED = {path.stem: path for path in sorted(Path(__file__).with_name("configurations").glob("*.json"))}
FAMILIES = list(PUBLISHED)


def save_family(folder: Path, toy_model: Path, name: str) -> Path:
    """A random model of the family `name` in `folder`, with the toy's tokenizer, stored as the family's models are."""
    published: dict[str, Any] = json.loads(PUBLISHED[name].read_text(encoding="utf-8"))
    shutil.copytree(toy_model, folder, dirs_exist_ok=True)
    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    sizes = {"vocab_size": vocabulary + len(PICTURES)}
    if "text_config" in published:
        sizes["vocab_size_per_layer_input"] = sizes["vocab_size"]
        pictures = {key: vocabulary + number for number, key in enumerate(PICTURES)}
        published = {**published, **pictures, "text_config": {**published["text_config"], **sizes}}
    else:
        published = {**published, **sizes}
    (folder / "config.json").write_text(json.dumps(published, indent=2), encoding="utf-8")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    stored = config.__dict__.pop("quantization_config", {})
    kind = AutoModelForImageTextToText if config.model_type == "mistral3" else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind.from_config(config).save_pretrained(folder)
    if stored:
        file = folder / "model.safetensors"
        save_file(STORED[stored["quant_method"]](load_file(file)), file, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(published, indent=2), encoding="utf-8")
    return folder


def _in_mxfp4(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Experts in 4 bits each with a scale for 32; random ones in place of those of `tensors`."""
    stored, generator = {}, torch.Generator().manual_seed(0)
    for name, values in tensors.items():
        if not name.endswith((".gate_up_proj", ".experts.down_proj")):
            stored[name] = values
            continue
        shape = (len(values), values.shape[2], values.shape[1] // 32)
        stored[f"{name}_blocks"] = torch.randint(256, (*shape, 16), generator=generator, dtype=torch.uint8)
        stored[f"{name}_scales"] = torch.full(shape, 127 - 4, dtype=torch.uint8)  # exponents
    return stored


def _in_fp8(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Linear layers in 8 bits each with a scale, there being no more than a block of 128 by 128."""
    stored = {}
    for name, values in tensors.items():
        if "proj" not in name:
            stored[name] = values
            continue
        scale = values.abs().max() / torch.finfo(torch.float8_e4m3fn).max
        stored[name] = (values / scale).to(torch.float8_e4m3fn)
        stored[f"{name}_scale_inv"] = scale.reshape(1, 1)
    return stored


STORED = {"mxfp4": _in_mxfp4, "fp8": _in_fp8}
