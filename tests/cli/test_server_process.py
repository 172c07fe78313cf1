"""`softprompt serve`: its beginning and its end, and what it does without HTTP."""

import asyncio
import json
import signal
import socket
import sys
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

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
from tests.cli.test_serve import LONG, QUESTION, asked, health, served
from tests.clones import wait
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
    assert batcher.counts() == {"waiting": 0, "running": 0, "batches": 2}


def test_a_literal_template_has_single_questions(repository: Path, tmp_path: Path) -> None:
    folder = copy_of(
        repository / "models/adapter", tmp_path / "literal", template="Q: {instruction} A: ", chat_template=None
    )
    variants = load_variants(folder, load_params())
    assert variants.tokenizer.decode(chat_question(variants, asked(QUESTION)["messages"])) == f"Q: {QUESTION} A: "
    turns = [*asked("hi")["messages"], {"role": "assistant", "content": "hi"}, *asked("hi")["messages"]]
    with pytest.raises(RefusedError, match="literal template"):
        chat_question(variants, turns)
    with pytest.raises(RefusedError, match="no place for the rows' system turns"):
        chat_question(variants, [{"role": "system", "content": "hi"}, *asked("hi")["messages"]])


ENDED = {"message": "the server has ended", "type": "server_error", "param": None, "code": None}


def test_ctrl_c_ends_it_and_every_answer_at_once(trained_clone: Path) -> None:
    """One answer runs, the others wait for seconds: each has a batch of its own, for its `max_tokens`."""
    bodies = [asked(QUESTION, model="mine", max_tokens=LONG - number, stream=number % 2 == 0) for number in range(6)]
    with served(trained_clone, "--name", "mine") as (address, process), ThreadPoolExecutor(len(bodies) + 1) as threads:
        with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) as halfway:
            halfway.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\n\r\n{"
            )
            asking = [
                threads.submit(httpx.post, f"{address}/chat/completions", json=body, timeout=60) for body in bodies
            ]
            wait(lambda: health(address)["running"] + health(address)["waiting"] == len(bodies), every=0.01)
            process.send_signal(signal.SIGINT)
            answers = [answer.result() for answer in asking]
            assert process.wait(timeout=30) == 1
        assert process.stderr
        said = process.stderr.read()
    assert said == "interrupted: the server has ended; run the same command again\n"
    for body, answer in zip(bodies, answers, strict=True):
        if body["stream"]:
            assert answer.status_code == 200
            assert answer.text.endswith("\n\n")
            assert json.loads(answer.text.splitlines()[-2].removeprefix("data: ")) == {"error": ENDED}
        else:
            assert answer.status_code == 503
            assert answer.json() == {"error": ENDED}


def test_what_is_asked_after_the_end_is_refused(repository: Path) -> None:
    variants = load_variants(None, params := load_params())
    batcher = Batcher(variants, max_batch=2)
    batcher.close()

    async def ask() -> None:
        pending = Pending([1], params.evaluate.generate, None, AnswerText(variants.tokenizer, []))
        batcher.put(pending)
        await asyncio.wait_for(anext(pending.pieces()), timeout=10)

    with pytest.raises(RefusedError, match="the server has ended"):
        asyncio.run(ask())


def test_a_client_that_goes_away_in_the_middle_of_a_body(trained_clone: Path) -> None:
    with served(trained_clone) as (address, process):
        with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) as halfway:
            halfway.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 9\r\n\r\n{"
            )
        assert health(address)["answered"] == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 1
        assert process.stderr
        assert process.stderr.read() == "interrupted: the server has ended; run the same command again\n"


def test_a_port_in_use(refusal: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refusal("serve", "--port", port)
    assert message == (
        f"error: can't listen at 127.0.0.1, port {port}: Address already in use; choose another --port or --host\n"
    )


def test_a_host_and_a_name_that_are_none(refusal: Command) -> None:
    message = refusal("serve", "--host", "nope.invalid", "--port", 8017)
    assert message.startswith("error: can't listen at nope.invalid, port 8017: ")
    assert "while attempting" not in message
    assert message.endswith("; choose another --port or --host\n")
    assert refusal("serve", "--host", "") == "error: --host is empty; allowed: an address, or 0.0.0.0 for all\n"
    for name in ("", " ", "\udcff"):
        assert refusal("serve", "--name", name) == "error: --name: allowed: text of at least one character\n"


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra(refusal: Command, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert f"needs two more packages: {INSTALL}" in refusal("serve")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert " ".join(["pip install", *(f"'{package}'" for package in extras["serve"])]) == INSTALL
