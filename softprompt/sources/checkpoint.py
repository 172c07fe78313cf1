"""A causal language model on disk: which files make one, and the one-off conversion of GGUF."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from softprompt.runtime.errors import InputError
from softprompt.sources.kinds import check_kind

# Weights, configuration, tokenizer; nothing that could run code, no optimizer states or logs.
FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
# Which may name classes of a repository's own code, under `auto_map`.
CONFIGURATIONS = ("config.json", "tokenizer_config.json")


def select_model_files(files: list[Path]) -> list[Path]:
    """The files of `files` that make a model: one GGUF file, or safetensors with configuration and tokenizer.

    Raises:
        InputError: if they are no model, or one with pickle weights only, or with an index that is none.
    """
    if len(files) == 1 and files[0].suffix == ".gguf":
        return files
    chosen = [path for path in files if any(path.match(pattern) for pattern in FILES)]
    names = {path.name for path in chosen}
    if not any(name.endswith(".safetensors") for name in names):
        if any(path.match(pattern) for path in files for pattern in PICKLES):
            raise InputError("pickle weights only, which can run code when loaded; convert them to safetensors")
        if any(path.suffix == ".gguf" for path in files):
            raise InputError("name the one GGUF file that is wanted, not its folder")
        raise InputError("not a model: no .safetensors and no .gguf file")
    if "config.json" not in names:
        raise InputError("not a model: no config.json")
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"}:
        raise InputError("not a model: no tokenizer (tokenizer.json, tokenizer.model, vocab.json or vocab.txt)")
    # A hub's listing has names only.
    for index in (path for path in chosen if path.name.endswith(".safetensors.index.json") and path.is_file()):
        with _refusing(f"not an index of weights: {index.name}", index.parent):
            check_kind(index)
            wanted = set(_read(index)["weight_map"].values())
        if lacking := sorted(wanted - names):
            raise InputError(f"{', '.join(lacking)} missing, which {index.name} names")
    return chosen


def copy_checkpoint(files: list[Path], folder: Path) -> None:
    """Copy a safetensors checkpoint into `folder`, byte for byte, but for a configuration that names code.

    Raises:
        InputError: if two files have one name, or the configuration is not of a causal language model that
            transformers has itself.
    """
    names = [path.name for path in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{', '.join(twice)} in several folders; a model is the files of one folder: name that")
    for path in files:
        shutil.copyfile(path, folder / path.name)
    check_configuration_files(folder)
    _leave_code_alone(folder)


def _leave_code_alone(folder: Path) -> None:
    """Take `auto_map` out of the configurations in `folder`, and say so.

    The code that it names is not among `FILES`. With it, transformers' auto classes would ask whether to run the code,
    and choose a tokenizer's class by other rules than without.
    """
    named = {name: values for name in CONFIGURATIONS if "auto_map" in (values := _read(folder / name))}
    for name, values in named.items():
        del values["auto_map"]
        (folder / name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if named:
        print(
            f"model.source: the code that auto_map in {' and '.join(named)} names is left alone, transformers' own "
            "classes are loaded",
            flush=True,
        )


def _read(file: Path) -> dict[str, Any]:
    """The values of a configuration; none where there is no such file."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


@contextmanager
def _refusing(what: str, folder: Path) -> Iterator[None]:
    """Turn whatever loading raises into an InputError that says `what`, without the temporary `folder`."""
    try:
        yield
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    # json, struct, safetensors, numpy and transformers raise what they like, and a panic of Rust's tokenizers is no
    # Exception at all.
    except BaseException as error:
        raise InputError(f"{what}: {str(error).replace(f'{folder}/', '')[:300]}") from error


def dequantise_gguf(file: Path, folder: Path, progress: Callable[[str], None]) -> None:
    """Load a GGUF file once and save it to `folder` as safetensors in float32, with its tokenizer.

    transformers would otherwise parse GGUF, which takes half a minute, at every load. float32 holds the dequantised
    values exactly; bfloat16 would round them.

    Raises:
        InputError: if it is not a whole GGUF file of an architecture that transformers reads.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    with _refusing("not a GGUF file that transformers can read, or not a whole one", file.parent):
        progress("weights")
        model = AutoModelForCausalLM.from_pretrained(
            **place, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        progress("tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(**place)
    progress("saving")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def check_configuration_files(folder: Path) -> None:
    """What a checkpoint's configuration alone can tell.

    Raises:
        InputError: if it is not of a causal language model that transformers has itself: code of the checkpoint's own
            is never run.
    """
    from transformers import CONFIG_MAPPING, AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    with _refusing("not a model that transformers can load", folder):
        model, tokenizer = (_read(folder / name) for name in CONFIGURATIONS)
        if "auto_map" in model and model.get("model_type") not in CONFIG_MAPPING:
            raise _wants_code("config.json", f"model_type {model.get('model_type')!r}", "a model of a type that it has")
        if "auto_map" in tokenizer and (own := tokenizer.get("tokenizer_class")) and not tokenizer_class_from_name(own):
            remedy = "a tokenizer_class that it has (PreTrainedTokenizerFast, where tokenizer.json says all)"
            raise _wants_code("tokenizer_config.json", f"tokenizer_class {own!r}", remedy)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            text = config.get_text_config().model_type
            remedy = f"; allowed: its text part, a {text} model, saved by itself: docs/models.md shows how"
            raise InputError(
                f"a {config.model_type} model, not a causal language model"
                + remedy * (text in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
            )
        known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]
        causal = {known} if isinstance(known, str) else set(known)
        # transformers would put a new head on an encoder's or a classifier's weights.
        if config.architectures and not causal & set(config.architectures):
            if "auto_map" in model:
                raise _wants_code("config.json", config.architectures[0], f"{' or '.join(sorted(causal))}")
            raise InputError(f"a {' / '.join(config.architectures)}, not a causal language model")


def _wants_code(file: str, what: str, remedy: str) -> InputError:
    return InputError(
        f"it wants to run code of its own (auto_map in {file}), which is never done, and transformers has no {what}; "
        f"allowed: {remedy}"
    )


def check_checkpoint(folder: Path) -> None:
    """Load `folder` as every later stage does.

    Raises:
        InputError: if it is not a causal language model, wants code of its own, or lacks weights.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_configuration_files(folder)
    with _refusing("not a model that transformers can load", folder):
        AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, output_loading_info=True)
    _, info = loaded
    # transformers would initialise what is missing at random, with a warning only.
    if missing := sorted(info["missing_keys"]):
        raise InputError(f"{len(missing)} weights are missing from the safetensors files, the first is {missing[0]}")
