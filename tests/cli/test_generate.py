"""`softprompt generate` and `chat`: the same answers as transformers and PEFT give, and what is refused."""

import contextlib
import json
import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from softprompt.data.templates import Template
from softprompt.evaluation.names import NAMES
from softprompt.serving.answer_text import AnswerText
from tests.cli.conftest import Command, change_origin, copy_of, new_adapter, plain_peft
from tests.clones import OURS, environment
from tests.evaluation.plain import examples, hard_question

QUESTION = "What is an apple?"


def expected(variant: str, *turns: str, adapter: Path = Path("models/adapter"), new_tokens: int = 40) -> str:
    """The greedy answer by PEFT's own generate to a conversation that ends with a question."""
    model, tokenizer = plain_peft(adapter)
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]
    ids = Template(tokenizer, "chat", None).prompt_ids(messages)
    if variant == "hard":
        ids = hard_question(tokenizer, turns[-1], ids)
    if variant == "few_shot":
        ids = examples(tokenizer) + ids
    given = torch.tensor([ids])
    with contextlib.nullcontext() if variant == "tuned" else model.disable_adapter():
        output = model.generate(
            input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=new_tokens, do_sample=False
        )
    new = output[0, given.shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True)


def command(*arguments: str, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": OURS}
    line = [sys.executable, "-m", "softprompt.cli", *arguments]
    return subprocess.run(line, cwd=folder, env=environment() | paths, input=stdin, capture_output=True, text=True)


def test_the_answer_is_peft_s_and_stands_alone_on_standard_output(repository: Path) -> None:
    result = command("generate", QUESTION, "--max-new-tokens", "40", folder=repository / "models")
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected("tuned", QUESTION) + "\n"
    assert result.stderr == "note: the answer was truncated after 40 tokens; --max-new-tokens allows more\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["generate", " "], 1, "error: the question is empty"),
        (["generate", "--top-k", "many", "hi"], 2, "'--top-k'"),
        (["nosuch"], 2, "No such command 'nosuch'"),
        (["generate", "--adapter", "nowhere", "hi"], 1, "error: /"),
    ],
)
def test_exit_status_and_streams(repository: Path, arguments: list[str], status: int, message: str) -> None:
    result = command(*arguments, folder=repository)
    assert result.returncode == status
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_help_imports_no_torch(repository: Path) -> None:
    code = (
        "import sys, softprompt.cli as c; c.app(['--help'], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=repository, capture_output=True)


def test_outside_of_a_repository(tmp_path: Path) -> None:
    result = command("generate", "hi", folder=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {tmp_path} is in no repository")


@pytest.mark.parametrize("argument", [[], ["-"]])
def test_a_question_from_a_pipe(answer: Command, argument: list[str]) -> None:
    piped = answer("generate", *argument, "--max-new-tokens", 8, stdin=f"\n{QUESTION}\n")
    assert piped == answer("generate", QUESTION, "--max-new-tokens", 8) != "\n"


def test_variants_answer_under_headings(answer: Command) -> None:
    parts = {variant: expected(variant, QUESTION) for variant in ("tuned", "few_shot", "hard", "base")}
    assert len(set(parts.values())) == 4, "the toy's variants say different things"
    shown = answer("generate", "--base", "--hard", "--few-shot", "--max-new-tokens", 40, QUESTION)
    assert shown == "\n".join(f"{NAMES[variant]}:\n{text}\n" for variant, text in parts.items())


def test_sampling_repeats_with_its_seed(answer: Command) -> None:
    options = ("generate", "--do-sample", "--temperature", 2.0, "--max-new-tokens", 20, QUESTION, "--seed")
    assert answer(*options, 1) == answer(*options, 1)
    assert answer(*options, 1) != answer(*options, 2)


def test_another_adapter(answer: Command, tmp_path: Path) -> None:
    other = new_adapter(tmp_path / "other", "p_tuning")
    shown = answer("generate", "--adapter", other, "--max-new-tokens", 40, QUESTION)
    assert shown == expected("tuned", QUESTION, adapter=other) + "\n"
    assert shown != answer("generate", "--max-new-tokens", 40, QUESTION)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-p", 2.0], "--top-p: 2.0 is not allowed; allowed: at most 1"),
        (["--max-new-tokens", 0], "--max-new-tokens: 0 is not allowed; allowed: at least 1"),
        (["--temperature", "nan", "--do-sample"], "--temperature: NaN is not allowed"),
        (["--temperature", 0.5, "--top-k", 3], "--temperature, --top-k: without an effect"),
        (["--seed", 1], "--seed: without an effect where nothing is sampled; add --do-sample"),
    ],
)
def test_options_are_checked_as_params_are(refusal: Command, options: list[object], message: str) -> None:
    assert message in refusal("generate", QUESTION, *options)


def test_a_question_that_does_not_fit(refusal: Command) -> None:
    message = refusal("generate", QUESTION, "--max-new-tokens", 500)
    assert "tuned prompt (4 tokens)" in message
    assert "the model's context is 512" in message
    question = message.partition(", ")[2].partition(" and answer")[0]  # and how long it is
    tokens = json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))["prompts"]["few_shot"]["tokens"]
    message = refusal("generate", QUESTION, "--few-shot", "--max-new-tokens", 500 - tokens)
    assert f"few-shot prompt ({tokens} tokens), {question} and answer" in message


def test_no_adapter_yet(refusal: Command, adapter: Path) -> None:
    shutil.rmtree(adapter)
    assert "dvc repro train" in refusal("generate", QUESTION)


def test_an_adapter_that_dvc_lock_does_not_describe(refusal: Command, adapter: Path) -> None:
    change_origin(adapter, base_model="elsewhere")
    message = refusal("generate", QUESTION)
    assert "models/adapter is not the one that dvc.lock describes" in message
    assert "dvc checkout" in message


def test_an_adapter_of_another_model(refusal: Command, repository: Path, tmp_path: Path) -> None:
    other = copy_of(repository / "models/adapter", tmp_path / "other", base_sha256="f" * 64)
    assert "was tuned on another model" in refusal("generate", "--adapter", other, QUESTION)


def test_a_damaged_adapter(refusal: Command, repository: Path, tmp_path: Path) -> None:
    other = copy_of(repository / "models/adapter", tmp_path / "other")
    (other / "README.md").unlink()
    assert "README.md is missing" in refusal("generate", "--adapter", other, QUESTION)


def test_a_conversation_is_kept_until_new(answer: Command) -> None:
    first = expected("tuned", QUESTION, new_tokens=12)
    second = expected("tuned", QUESTION, first, "And a bell?", new_tokens=12)
    alone = expected("tuned", "And a bell?", new_tokens=12)
    assert second != alone
    lines = f"{QUESTION}\n\nAnd a bell?\n/new\nAnd a bell?\n/exit\nnot asked\n"
    shown = answer("chat", "--max-new-tokens", 12, stdin=lines)
    assert shown == f"{first}\n{second}\n{alone}\n"


def test_a_conversation_that_is_full(refusal: Command) -> None:
    message = refusal("chat", "--max-new-tokens", 8, stdin=f"{'bell ' * 600}\n")
    assert "the model's context is 512" in message
    assert "/new" in message


def test_a_literal_template_has_no_conversations(refusal: Command, repository: Path, tmp_path: Path) -> None:
    other = copy_of(
        repository / "models/adapter", tmp_path / "other", template="Q: {instruction} A: ", chat_template=None
    )
    assert "softprompt generate" in refusal("chat", "--adapter", other, stdin="hi\n")


def test_chat_in_a_terminal(repository: Path) -> None:
    """A prompt, an answer, a turn that is too long (which does not end it), and Ctrl-D."""
    controller, terminal = pty.openpty()
    line = [sys.executable, "-m", "softprompt.cli", "chat", "--max-new-tokens", "450"]
    # readline of a dumb terminal writes no sequences of control characters.
    process = subprocess.Popen(
        line, cwd=repository, env=environment() | {"TERM": "dumb"}, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    parts = []
    for typed in (f"{QUESTION}\n", f"{'bell ' * 20}\n", "/new\n", "\x04"):
        parts.append(up_to_the_prompt(controller))
        os.write(controller, typed.encode())
    assert process.wait(timeout=60) == 0
    _, answered, refused, begun = parts
    assert expected("tuned", QUESTION, new_tokens=450) in answered
    assert "note: tuned prompt (4 tokens)" in refused
    assert "or begin afresh with /new" in refused
    assert begun == "/new\n"


def up_to_the_prompt(controller: int) -> str:
    """What a terminal shows up to the next prompt. Typed before it, Ctrl-D would be lost as readline starts."""
    shown = b""
    while not shown.endswith(b">>> "):
        ready, _, _ = select.select([controller], [], [], 60)
        assert ready, shown
        shown += os.read(controller, 4096)
    return shown.decode().replace("\r\n", "\n").removesuffix(">>> ")


def test_streamed_pieces_make_the_decoded_text() -> None:
    """Also where a token is part of a character, and where a tokenizer drops the first space of what it decodes."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "</s>", "▁a", "\n", "▁▁b", "<0xE4>", "<0xBD>", "<0xA0>", "."]
    core = Tokenizer(models.BPE({piece: place for place, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    replace, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    core.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])  # Llama 2's
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    text = AnswerText(tokenizer, [1])
    shown = [piece for token in (2, 3, 4, 5, 6, 7, 8, 1) if (piece := text.put(token))]
    assert text.end() == ""
    assert shown == ["a", "\n", "  b", "你", "."]
    assert text.text == "".join(shown)
