"""`softprompt serve`, asked by OpenAI's own client: the answers of `softprompt generate`, in batches; and refusals."""

import asyncio
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.cli.conftest import Command, plain_peft
from tests.cli.test_generate import expected
from tests.clones import environment, wait
from tests.toy import ROOT

QUESTION = "What is an apple?"
QUESTIONS = ("What is coal?", "Name a colour of fog.", "Where does a kite come from, and who has made it?", "Dew?")
LONG = 440  # tokens


def asked(text: str, **settings: Any) -> dict[str, Any]:
    """A request of greedy decoding with 40 tokens at most."""
    return {"model": "softprompt", "messages": [{"role": "user", "content": text}], "max_tokens": 40, **settings}


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a server in `folder`, and its process."""
    line = [sys.executable, "-m", "softprompt.cli", "serve", "--port", "0", *options]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, cwd=folder, env=environment(), **pipes) as process:
        try:
            assert process.stdout
            ready = process.stdout.readline()
            assert " is served at http://127.0.0.1:" in ready, process.communicate()
            yield ready.split(" at ")[1].partition(";")[0], process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address(trained_clone: Path) -> Iterator[str]:
    with served(trained_clone) as (address, _):
        yield address


@pytest.fixture
def client(address: str, repository: Path) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


def health(address: str) -> dict[str, Any]:
    return httpx.get(f"{address.removesuffix('/v1')}/health").json()


def idle(address: str) -> dict[str, Any]:
    """What /health says once no batch runs: an answer is there before its batch is over."""
    wait(lambda: health(address)["running"] == health(address)["waiting"] == 0, every=0.01)
    return health(address)


def test_an_answer_is_that_of_generate(client: openai.OpenAI, answer: Command) -> None:
    said = client.chat.completions.create(**asked(f" {QUESTION} "))
    assert f"{said.choices[0].message.content}\n" == answer("generate", QUESTION, "--max-new-tokens", 40)
    assert said.choices[0].finish_reason == "length"
    assert said.model == client.models.list().data[0].id == "softprompt"
    assert said.usage
    _, tokenizer = plain_peft(Path("models/adapter"))
    question = tokenizer.apply_chat_template(asked(QUESTION)["messages"], add_generation_prompt=True)["input_ids"]
    assert said.usage.prompt_tokens == 4 + len(question)
    assert said.usage.completion_tokens == 40
    assert said.usage.total_tokens == said.usage.prompt_tokens + 40


def test_a_stream_is_the_same_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**asked(QUESTION))
    chunks = list(
        client.chat.completions.create(**asked(QUESTION), stream=True, stream_options={"include_usage": True})
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 10
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["length"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_example_of_the_page(client: openai.OpenAI, answer: Command, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    example = re.findall(r"```python\n(.*?)```", page, re.S)[0]
    exec(compile(example.replace("http://127.0.0.1:8017/v1", str(client.base_url)), "docs/serving.md", "exec"), {})
    whole, _, streamed = capsys.readouterr().out.partition(" CompletionUsage(")
    assert f"{whole}\n" == answer("generate", "What is a computer?")
    assert streamed.endswith(whole)


def test_a_conversation_goes_on_and_has_a_system_turn(client: openai.OpenAI, answer: Command) -> None:
    first = client.chat.completions.create(**asked(QUESTION)).choices[0].message
    assert first.content
    turns = [*asked(QUESTION)["messages"], first, *asked("And coal?")["messages"]]
    said = client.chat.completions.create(**{**asked(""), "messages": turns})
    assert said.choices[0].message.content == expected("tuned", QUESTION, first.content, "And coal?")
    shown = answer("generate", QUESTION, "--system", "Be brief.", "--max-new-tokens", 40)
    for role in ("system", "developer"):
        turns = [{"role": role, "content": [{"type": "text", "text": "Be brief."}]}, *asked(QUESTION)["messages"]]
        said = client.chat.completions.create(**{**asked(""), "messages": turns})
        assert f"{said.choices[0].message.content}\n" == shown


def test_samples_are_those_of_generate_with_the_same_seed(client: openai.OpenAI, answer: Command) -> None:
    def said(**settings: Any) -> str:
        return f"{client.chat.completions.create(**asked(QUESTION, **settings)).choices[0].message.content}\n"

    options = ("generate", QUESTION, "--max-new-tokens", 40)
    sampled = answer(*options, "--do-sample", "--temperature", 2.0, "--top-p", 0.9, "--seed", 3)
    assert said(temperature=2, top_p=0.9, seed=3) == sampled != said(temperature=2, top_p=0.9, seed=4)
    assert said(top_p=0.5, seed=3) == answer(*options, "--do-sample", "--top-p", 0.5, "--seed", 3)
    assert said(temperature=0, top_p=0.5, seed=3) == answer(*options)
    assert said(temperature=2) != said(temperature=2)


def test_a_text_goes_on_without_a_template(client: openai.OpenAI) -> None:
    model, tokenizer = plain_peft(Path("models/adapter"))
    given = tokenizer("An apple is", return_tensors="pt")
    output = model.generate(**given, max_new_tokens=20, do_sample=False)
    wanted = tokenizer.decode(output[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
    request: dict[str, Any] = {"model": "softprompt", "prompt": "An apple is", "max_tokens": 20}
    said = client.completions.create(**request)
    assert said.choices[0].text == wanted
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**request, stream=True)) == wanted


def test_a_stop_text_ends_an_answer_and_is_no_part_of_it(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**asked(QUESTION)).choices[0].message.content
    assert whole
    stop = whole[len(whole) // 2 : len(whole) // 2 + 5]
    wanted = whole[: whole.index(stop)]
    said = client.chat.completions.create(**asked(QUESTION, stop=["no such text", stop]))
    assert said.choices[0].message.content == wanted
    assert said.choices[0].finish_reason == "stop"
    assert said.usage
    assert 0 < said.usage.completion_tokens < 40
    chunks = client.chat.completions.create(**asked(QUESTION, stop=stop, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == wanted


def test_what_arrives_while_a_batch_runs_is_the_next_batch(address: str) -> None:
    """Each answer is that of the question alone; one with a seed of its own is in no batch with others."""
    requests = [asked(question) for question in QUESTIONS] + [asked(QUESTION, temperature=2, seed=1)] * 2

    async def ask() -> tuple[list[Any], list[Any], dict[str, Any]]:
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
            alone = [await client.chat.completions.create(**request) for request in requests]
            before = idle(address)
            first = asyncio.ensure_future(client.chat.completions.create(**asked(QUESTION, max_tokens=LONG)))
            await until(lambda: health(address)["running"] == 1)
            others = [asyncio.ensure_future(client.chat.completions.create(**request)) for request in requests]
            await until(lambda: health(address)["waiting"] == len(requests))
            together = await asyncio.gather(*others)
            await first
            after = idle(address)
            return alone, together, {name: after[name] - before[name] for name in ("answered", "batches")}

    alone, together, more = asyncio.run(ask())
    assert more == {"answered": 1 + len(requests), "batches": 1 + 1 + 2}
    texts = [said.choices[0].message.content for said in alone]
    assert [said.choices[0].message.content for said in together] == texts
    assert [said.usage for said in together] == [said.usage for said in alone]
    assert len(set(texts)) > 2


async def until(is_true: Any) -> None:
    deadline = time.monotonic() + 30
    while not await asyncio.to_thread(is_true):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place(address: str, stream: bool) -> None:
    url, body = f"{address}/chat/completions", asked(QUESTION, max_tokens=LONG, stream=stream)
    start = time.monotonic()
    assert httpx.post(url, json=body, timeout=60).status_code == 200
    whole = time.monotonic() - start
    before = idle(address)
    with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=whole / 20) as client:
        if not stream:
            client.post(url, json=body)
        with client.stream("POST", url, json=body, timeout=60) as response:
            pieces = filter(None, response.iter_lines())
            for _ in range(3):  # the first is there before the question waits
                next(pieces)
            raise httpx.ReadTimeout("went away")
    start = time.monotonic()
    wait(lambda: health(address)["batches"] == before["batches"] + 1, every=0.01)
    assert time.monotonic() - start < whole / 2
    assert health(address)["answered"] == before["answered"]


def test_fields_without_effect_are_taken(client: openai.OpenAI) -> None:
    said = client.chat.completions.create(
        **asked(QUESTION, user="me", n=1, logprobs=False, presence_penalty=0.0, response_format={"type": "text"})
    )
    assert said.choices[0].message.content
