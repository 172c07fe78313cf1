"""`softprompt export`: the soft prompt for other engines, as embeddings or as keys and values."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from softprompt.cli.loading import enter_repository, load_variants
from softprompt.cli.options import Adapter, Force, question_text
from softprompt.config import load_params
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import MANIFEST, faults_in, output_file, output_folder
from softprompt.runtime.paths import ADAPTER, BASE_MODEL, FOLDERS, LOCAL_SOURCES, RESULTS

if TYPE_CHECKING:
    from peft import PeftModelForCausalLM

    from softprompt.engine.model import SharedPrefixModel
    from softprompt.evaluation.variants import Variants

OUTPUTS = (*FOLDERS, LOCAL_SOURCES, RESULTS)
TENSOR, ABOUT, COUNTS = "prompt_embeds", "prompt", {"virtual_tokens", "question_tokens"}
TITLE = "# Keys and values of a soft prompt"

export = typer.Typer(
    help="Write the soft prompt for other engines.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)


@export.command()
def embeddings(
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.", resolve_path=True)],
    *,
    adapter: Adapter = None,
    question: Annotated[str | None, typer.Option(help="Write the input of one request: prompt and question.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="Of the tensor.")] = "float32",
    force: Force = False,
) -> None:
    """Write embeddings as one tensor.

    It is for engines that take embeddings in place of token ids.

    The tensor `prompt_embeds` has the shape (virtual tokens, hidden). With --question it is the whole input of one
    request, (virtual tokens + question's tokens, hidden): first the virtual tokens, then the embeddings of the question
    in the template of the adapter's training. The template is applied here, so the engine must not apply its own.
    Virtual tokens have no ids; they count in the length of the prompt as any token does. The metadata key `prompt` says
    as JSON what it was tuned on.

    vLLM, with enable_prompt_embeds=True: llm.generate({"prompt_embeds": tensor}). Its server, with
    --enable-prompt-embeds, takes in /v1/completions "prompt_embeds": the tensor after torch.save, in base64; not in
    /v1/chat/completions, which puts its template around it. docs/serving.md has a client.

    SGLang, with --disable-radix-cache: "input_embeds": tensor.tolist() in /generate.
    """
    enter_repository()
    _check_free(out, _is_exported_file, force)
    asked = None if question is None else question_text(question)
    variants = load_variants(adapter, load_params())
    import torch
    from safetensors.torch import save_file

    from softprompt.provenance.origin import read_origin

    tuned = _embeddings_of(variants)
    parts, tokens = [tuned], []
    if asked is not None:
        tokens = variants.question_ids([{"role": "user", "content": asked}])
        ids = torch.tensor(tokens, device=variants.model.device)
        parts.append(variants.model.frozen.get_input_embeddings()(ids))
    together = torch.cat([part.to(getattr(torch, dtype)) for part in parts]).contiguous().cpu()
    origin = read_origin(adapter or ADAPTER, BASE_MODEL)
    about = {**asdict(origin), "virtual_tokens": len(tuned), "question_tokens": len(tokens)}
    _check_free(out, _is_exported_file, force)  # again: the model took its time
    with output_file(out) as path:
        # One key: safetensors writes several in any order.
        save_file({TENSOR: together}, path, {ABOUT: json.dumps(about, ensure_ascii=False)})
    counts = f"{len(tuned)} virtual tokens" + (f", {len(tokens)} of the question" if tokens else "")
    print(f"{out}: prompt_embeds {tuple(together.shape)}, {dtype}: {counts}")


@export.command()
def prefix(
    out: Annotated[Path, typer.Argument(help="The adapter's folder to write.", resolve_path=True)],
    *,
    adapter: Adapter = None,
    force: Force = False,
) -> None:
    """Write keys and values, as prefix tuning.

    The folder is an adapter of PEFT's prefix tuning with the virtual tokens' keys and values: it gives the same logits,
    and nothing of the prompt is run. PEFT loads it as any adapter, and --adapter takes it.
    """
    enter_repository()
    source = adapter or ADAPTER
    if out == source.resolve():
        raise InputError(f"{out} is the adapter itself; name another folder")
    _check_free(out, _is_exported_folder, force)
    variants = load_variants(adapter, load_params())
    _embeddings_of(variants)
    from softprompt.provenance.base_name import set_base_name
    from softprompt.provenance.origin import ORIGIN

    exported = as_prefix(variants.model)
    _check_free(out, _is_exported_folder, force)  # again: the model took its time
    with output_folder(out) as folder:
        set_base_name(exported.active_peft_config, BASE_MODEL)
        exported.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").write_text(_card(variants.virtual_tokens, source), encoding="utf-8")
        shutil.copy(source / ORIGIN, folder / ORIGIN)
    print(f"{out}: keys and values of {variants.virtual_tokens} virtual tokens, an adapter of prefix tuning")


def as_prefix(model: "SharedPrefixModel") -> "PeftModelForCausalLM":
    """The same frozen model behind the same prompt, as keys and values: PEFT's prefix tuning.

    Args:
        model: with embeddings as its prompt.

    Raises:
        InputError: if the logits would not be the same.
    """
    import torch
    from peft import PeftModelForCausalLM, PrefixTuningConfig
    from peft.tuners.cartridge.utils import initialize_kv_prefix_from_past_key_values

    from softprompt.engine.prefix import run_prefix
    from softprompt.engine.sharing import obstacle

    frozen, virtual_tokens = model.frozen, model.active_peft_config.num_virtual_tokens
    if reason := obstacle(frozen, virtual_tokens):
        raise InputError(f"{type(frozen).__name__} has no prefix that gives the same logits: {reason}")
    none = torch.empty(0, dtype=torch.long, device=model.device)
    with torch.no_grad():
        cache = run_prefix(frozen, model.prompt(), none)
    config = PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=virtual_tokens,
        inference_mode=True,
    )
    exported = PeftModelForCausalLM(frozen, config)
    try:
        initialize_kv_prefix_from_past_key_values(exported, past_key_values=cache)
    except ValueError as error:
        raise InputError(
            f"{type(frozen).__name__}: PEFT's prefix tuning can't hold its keys and values: {error}"
        ) from None
    return exported


def _embeddings_of(variants: "Variants") -> Any:
    """Embeddings of the virtual tokens as they were tuned, (virtual tokens, hidden).

    Raises:
        InputError: for prefix tuning and LoRA, which have none.
    """
    import torch

    if not variants.model.puts_prompt:
        raise InputError(
            "the adapter is LoRA: it is in the model's layers, and there is no prompt to export; use its folder with "
            "PEFT, whose merge_and_unload() makes a plain model of it"
        )
    with torch.no_grad():
        tuned: Any = variants.model.get_prompt(batch_size=1)
    if not isinstance(tuned, torch.Tensor):
        raise InputError(
            "the adapter is of prefix tuning: it is keys and values already, as softprompt export prefix would "
            "write, and has no embeddings; use its folder as it is"
        )
    return tuned[0]


def _check_free(out: Path, is_earlier_export: Callable[[Path], bool], force: bool) -> None:
    """Refuse a place where something would be lost: only an earlier export, as it was written, may be overwritten."""
    for folder in OUTPUTS:
        if out.is_relative_to(folder.resolve()):
            raise InputError(f"{out} is in {folder}, which a stage writes: DVC would remove it; name another place")
    if out.exists() and not is_earlier_export(out):
        raise InputError(f"{out} exists and is no earlier export, or was changed since; name another place")
    if out.exists() and not force:
        raise InputError(f"{out} exists; add --force to overwrite it")


def _is_exported_file(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(ABOUT, "null"))
            return list(file.keys()) == [TENSOR] and isinstance(about, dict) and about.keys() >= COUNTS
    except (OSError, SafetensorError, ValueError):
        return False


def _is_exported_folder(path: Path) -> bool:
    """Any adapter has a manifest, as `train` writes it too; the card tells an export."""
    card = path / "README.md"
    is_whole = (path / MANIFEST).is_file() and card.is_file() and not faults_in(path)
    return is_whole and TITLE in card.read_text(encoding="utf-8", errors="replace").splitlines()


def _card(virtual_tokens: int, source: Path) -> str:
    """README.md of an exported prefix."""
    from softprompt.provenance.base_name import card_header

    return f"""{card_header(BASE_MODEL, "prefix-tuning", "soft-prompt")}

{TITLE}

{virtual_tokens} virtual tokens of the adapter {source.name}, run once through its model and stored as PEFT's prefix
tuning: the same logits, and no forward of the prompt. `origin.json` says on which model and template it was tuned.
"""
