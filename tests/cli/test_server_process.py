"""`softprompt serve`: its beginning and its end, and what it does without HTTP."""

import asyncio
import signal
import socket
import sys
import threading
import tomllib
from pathlib import Path

import httpx
import pytest

from softprompt.cli.loading import load_variants
from softprompt.cli.serve import INSTALL
from softprompt.config import load_params
from softprompt.serving.answer_text import AnswerText
from softprompt.serving.batching import Batcher
from softprompt.serving.pending import Pending
from softprompt.serving.questions import chat_question
from softprompt.serving.refusals import RefusedError
from tests.cli.conftest import Command, copy_of
from tests.cli.test_generate import expected
from tests.cli.test_serve import LONG, QUESTION, asked, served
from tests.toy import ROOT


def test_an_answer_that_nobody_waits_for_ends(repository: Path) -> None:
    """In this process, so that steps of the model can be counted."""
    variants = load_variants(None, params := load_params())
    steps: list[int] = []
    variants.model.frozen.get_decoder().layers[0].register_forward_pre_hook(lambda _, inputs: steps.append(1))
    batcher = Batcher(variants, max_batch=2)
    settings = params.evaluate.generate

    async def ask() -> str:
        question = chat_question(variants, asked(QUESTION)["messages"])
        both = [settings.model_copy(update={"max_new_tokens": new_tokens}) for new_tokens in (LONG, 5)]
        pending = [Pending(question, one, None, AnswerText(variants.tokenizer, [])) for one in both]
        for one in pending:
            batcher.put(one)
        pieces = pending[0].pieces()
        for _ in range(3):
            await anext(pieces)
        pending[0].give_up()
        text = "".join([piece async for piece in pending[1].pieces()])
        batcher.close()
        return text

    asking = threading.Thread(target=lambda: said.append(asyncio.run(ask())))
    said: list[str] = []
    asking.start()
    batcher.run()
    asking.join()
    assert said == [expected("tuned", QUESTION, new_tokens=5)]
    assert len(steps) < LONG / 2
    assert batcher.counts() == {"waiting": 0, "running": 0, "answered": 2, "batches": 2}


def test_a_literal_template_has_single_questions(repository: Path, tmp_path: Path) -> None:
    folder = copy_of(repository / "models/adapter", tmp_path / "literal", template="Q: {instruction} A: ")
    variants = load_variants(folder, load_params())
    assert variants.tokenizer.decode(chat_question(variants, asked(QUESTION)["messages"])) == f"Q: {QUESTION} A: "
    turns = [*asked("hi")["messages"], {"role": "assistant", "content": "hi"}, *asked("hi")["messages"]]
    with pytest.raises(RefusedError, match="literal template"):
        chat_question(variants, turns)
    with pytest.raises(RefusedError, match="no place for the rows' system turns"):
        chat_question(variants, [{"role": "system", "content": "hi"}, *asked("hi")["messages"]])


def test_ctrl_c_ends_it_at_once(trained_clone: Path) -> None:
    with served(trained_clone, "--name", "mine") as (address, process):
        body = asked(QUESTION, model="mine", max_tokens=LONG, stream=True)
        with httpx.stream("POST", f"{address}/chat/completions", json=body, timeout=60) as response:
            next(response.iter_lines())
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 1
        _, said = process.communicate()
    assert said == "interrupted: the server has ended; run the same command again\n"


def test_a_port_in_use(refusal: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refusal("serve", "--port", port)
    assert message == (
        f"error: can't listen at 127.0.0.1, port {port}: Address already in use; choose another --port or --host\n"
    )
    assert "can't listen at no.such.host.invalid" in refusal("serve", "--host", "no.such.host.invalid")


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra(refusal: Command, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert f"needs two more packages: {INSTALL}" in refusal("serve")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert " ".join(["pip install", *(f"'{package}'" for package in extras["serve"])]) == INSTALL
