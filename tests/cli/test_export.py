"""`softprompt export`: what is written gives the same logits elsewhere."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.cli.export import as_prefix
from softprompt.data.templates import Template
from softprompt.engine.model import SharedPrefixModel
from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import faults_in
from tests.cli.conftest import Command, copy_of, new_adapter, plain_peft
from tests.engine.architectures import ARCHITECTURES, VIRTUAL_TOKENS, VOCABULARY, make_pair

BASE = Path("models/base")
QUESTION = "What is an apple?"


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-4


@pytest.fixture(params=["prompt_tuning", "p_tuning"])
def adapter_folder(request: pytest.FixtureRequest, repository: Path, tmp_path: Path) -> Path:
    return new_adapter(tmp_path / request.param, request.param)


@pytest.fixture
def prefix_tuned(repository: Path, tmp_path: Path) -> Path:
    return new_adapter(tmp_path / "prefix-tuned", "prefix_tuning")


def question_ids(tokenizer) -> torch.Tensor:
    return torch.tensor([Template(tokenizer, "chat", None).prompt_ids([{"role": "user", "content": QUESTION}])])


@torch.no_grad()
def test_embeddings_with_a_question_give_peft_s_logits(answer: Command, adapter_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "request.safetensors"
    shown = answer("export", "embeddings", out, "--adapter", adapter_folder, "--question", f" {QUESTION}")
    peft, tokenizer = plain_peft(adapter_folder)
    ids = question_ids(tokenizer)
    wanted = peft(input_ids=ids).logits
    embeddings = load_file(out)["prompt_embeds"]
    assert embeddings.shape == (4 + ids.shape[1], 32)
    assert f"4 virtual tokens, {ids.shape[1]} of the question" in shown
    assert_close(AutoModelForCausalLM.from_pretrained(BASE)(inputs_embeds=embeddings.unsqueeze(0)).logits, wanted)


@torch.no_grad()
def test_embeddings_before_tokens_give_peft_s_logits(answer: Command, adapter_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "prompt.safetensors"
    answer("export", "embeddings", out, "--adapter", adapter_folder)
    peft, tokenizer = plain_peft(adapter_folder)
    ids = question_ids(tokenizer)
    wanted = peft(input_ids=ids).logits
    base = AutoModelForCausalLM.from_pretrained(BASE)
    together = torch.cat([load_file(out)["prompt_embeds"], base.get_input_embeddings()(ids)[0]])
    assert_close(base(inputs_embeds=together.unsqueeze(0)).logits, wanted)


def test_transformers_answers_a_question_s_embeddings_as_generate_does(
    answer: Command, adapter_folder: Path, tmp_path: Path
) -> None:
    """As any engine that takes embeddings would: nothing of this project is in it."""
    out = tmp_path / "request.safetensors"
    answer("export", "embeddings", out, "--adapter", adapter_folder, "--question", QUESTION)
    base, tokenizer = AutoModelForCausalLM.from_pretrained(BASE), AutoTokenizer.from_pretrained(BASE)
    embeddings = load_file(out)["prompt_embeds"].unsqueeze(0)
    new = base.generate(inputs_embeds=embeddings, max_new_tokens=40, do_sample=False)[0]
    shown = answer("generate", QUESTION, "--adapter", adapter_folder, "--max-new-tokens", 40)
    assert f"{tokenizer.decode(new, skip_special_tokens=True)}\n" == shown


def test_the_file_says_what_it_is_and_repeats(answer: Command, repository: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for out in (one, two):
        answer("export", "embeddings", out, "--dtype", "bfloat16")
    assert one.read_bytes() == two.read_bytes()
    with safe_open(one, "pt") as file:
        assert list(file.keys()) == ["prompt_embeds"]
        assert file.get_tensor("prompt_embeds").dtype == torch.bfloat16
        about = json.loads(file.metadata()["prompt"])
    origin = json.loads((repository / "models/adapter/origin.json").read_text(encoding="utf-8"))
    assert about == origin | {"virtual_tokens": 4, "question_tokens": 0}


@torch.no_grad()
def test_a_prefix_gives_the_same_logits_in_plain_peft_and_here(
    answer: Command, adapter_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "prefix"
    answer("export", "prefix", out, "--adapter", adapter_folder)
    names = {"README.md", "SHA256SUMS", "adapter_config.json", "adapter_model.safetensors", "origin.json"}
    assert {path.name for path in out.iterdir()} == names
    assert faults_in(out) == []
    assert (out / "origin.json").read_bytes() == (adapter_folder / "origin.json").read_bytes()
    peft, tokenizer = plain_peft(adapter_folder)
    ids = question_ids(tokenizer)
    wanted = peft(input_ids=ids).logits[:, 4:]
    base = AutoModelForCausalLM.from_pretrained(BASE)
    assert_close(PeftModel.from_pretrained(base, str(out)).eval()(input_ids=ids).logits, wanted)
    ours = SharedPrefixModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), str(out))
    assert ours.shares_prefix
    row = ids[0].tolist()
    losses, _ = ours.token_losses([{"input_ids": row, "labels": row}])
    wanted_losses = torch.nn.functional.cross_entropy(wanted[0, :-1], ids[0, 1:], reduction="none")
    # Nothing predicts the first token behind keys and values.
    assert_close(losses[-len(wanted_losses) :], wanted_losses)
    both = [
        answer("generate", "--adapter", folder, "--max-new-tokens", 20, QUESTION) for folder in (adapter_folder, out)
    ]
    assert both[0] == both[1]


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prefixes_of_other_architectures(architecture: str) -> None:
    """Rows longer than the windows of those that have one."""
    ours, peft = make_pair(architecture, "prompt_tuning")
    ids = torch.randint(2, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(1))
    wanted = peft(input_ids=ids).logits[:, VIRTUAL_TOKENS:]
    assert_close(as_prefix(ours).double()(input_ids=ids).logits, wanted)


@pytest.mark.filterwarnings("ignore:.*no shared prefix")
def test_no_prefix_where_it_would_not_be_the_same() -> None:
    ours, _ = make_pair("mistral", "prompt_tuning", sliding_window=3)
    with pytest.raises(InputError, match=r"MistralForCausalLM has no prefix .* sliding window of 3"):
        as_prefix(ours)


@pytest.mark.parametrize("kind", ["embeddings", "prefix"])
def test_prefix_tuning_is_refused(refusal: Command, prefix_tuned: Path, tmp_path: Path, kind: str) -> None:
    message = refusal("export", kind, tmp_path / "out", "--adapter", prefix_tuned)
    assert "keys and values already" in message
    assert {path.name for path in tmp_path.iterdir()} == {"prefix-tuned"}


def test_an_earlier_export_is_overwritten_by_force_only(answer: Command, refusal: Command, tmp_path: Path) -> None:
    for kind in ("embeddings", "prefix"):
        out = tmp_path / kind
        answer("export", kind, out)
        assert "add --force" in refusal("export", kind, out)
        answer("export", kind, out, "--force")


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_else_is_overwritten(
    answer: Command, refusal: Command, repository: Path, prefix_tuned: Path, tmp_path: Path
) -> None:
    """Neither any folder or file, nor an adapter that was trained, nor an export to which something was added."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("kept", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("kept", encoding="utf-8")
    save_file({"prompt_embeds": torch.zeros(4, 32)}, tmp_path / "mine.safetensors", {"prompt": "of mine"})
    copy_of(repository / "models/adapter", tmp_path / "trained")
    answer("export", "prefix", tmp_path / "extended")
    (tmp_path / "extended/notes.txt").write_text("kept", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "trained")
    before = files_in(tmp_path)
    for name in ("mine", "mine/", "notes.txt", "mine.safetensors", "trained", prefix_tuned.name, "extended", "link"):
        for kind in ("embeddings", "prefix"):
            assert "is no earlier export" in refusal("export", kind, f"{tmp_path}/{name}", "--force")
    assert files_in(tmp_path) == before
    assert "the adapter itself" in refusal("export", "prefix", "models/adapter", "--force")
    for place in ("models/base", "models/adapter/prompt.safetensors", "data/raw/prompt.safetensors"):
        assert "which a stage writes" in refusal("export", "embeddings", place, "--force")
    assert faults_in(repository / "models/adapter") == []
