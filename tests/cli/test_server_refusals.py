"""`softprompt serve`: what it refuses, and how it says so."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.cli.test_serve import QUESTION, asked, served


@pytest.fixture(scope="module")
def address(trained_clone: Path) -> Iterator[str]:
    with served(trained_clone) as (address, _):
        yield address


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"n": 2}, "n", "n: 2 is not supported; allowed: 1"),
    ({"n": True}, "n", "n: true is not supported; allowed: 1"),
    ({"logprobs": True}, "logprobs", "logprobs: true is not supported; allowed: false"),
    ({"extra_body": {"logprobs": 0}}, "logprobs", "logprobs: 0 is not supported; allowed: false"),
    ({"extra_body": {"echo": 0}}, "echo", "echo: 0 is not supported; allowed: false"),
    ({"extra_body": {"suffix": "a" * 99}}, "suffix", f'suffix: "{"a" * 56}… is not supported; allowed: ""'),
    ({"tools": [{"type": "function"}]}, "tools", "tools: "),
    ({"extra_body": {"temprature": 1}}, "temprature", "unknown key; did you mean temperature?"),
    ({"extra_body": {"top_k": 5}}, "top_k", "top_k: unknown key"),
    ({"temperature": 3}, "temperature", "allowed: at most 2"),
    ({"temperature": "warm"}, "temperature", "allowed: a number"),
    ({"temperature": 1e-40}, "temperature", "temperature: 1e-40 is not allowed; allowed: 0, or at least 1e-06"),
    ({"max_tokens": 0}, "max_tokens", "allowed: at least 1"),
    ({"max_completion_tokens": 8}, "max_tokens", "max_tokens and max_completion_tokens differ"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4 texts"),
    ({"stop": ""}, "stop", "none of them empty"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "unless stream is true"),
    (
        {"stream": True, "stream_options": {"x": True}},
        "stream_options.x",
        "stream_options.x: unknown key; known here: stream_options.include_usage",
    ),
    ({"extra_body": {"messages": "x"}}, "messages", 'messages: "x" is not allowed; allowed: a list in brackets, […]'),
    ({"messages": []}, "messages", "the last one has to be the user's"),
    ({"messages": [{"role": "assistant", "content": "hi"}]}, "messages", "the last one has to be the user's"),
    ({"messages": [{"role": "tool", "content": "hi"}]}, "messages", 'messages[0].role: "tool" is not allowed'),
    ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages", 'messages[0].role: ["user"] is not allowed'),
    ({"messages": [{"role": {}, "content": "hi"}]}, "messages", "messages[0].role: {} is not allowed"),
    ({"messages": [{"role": "user", "content": "hi", "name": "me"}]}, "messages", "messages[0].name: not supported"),
    ({"messages": [{"role": "user", "content": " "}]}, "messages", "messages[0].content: empty"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "messages[0].content: allowed"),
    ({"messages": ["hi"]}, "messages", "messages[0]: no JSON object"),
]


@pytest.mark.parametrize(("changes", "param", "message"), REFUSED)
def test_what_is_not_known_is_refused_by_name(
    client: openai.OpenAI, changes: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**{**asked(QUESTION), **changes})
    assert message in refusal.value.message
    assert refusal.value.param == param
    assert refusal.value.type == "invalid_request_error"


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.chat.completions.create(**asked(QUESTION, model="gpt-4o"))
    assert refusal.value.code == "model_not_found"
    assert "served here: softprompt" in refusal.value.message
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="softprompt", input="hi")


def test_a_question_that_does_not_fit(client: openai.OpenAI) -> None:
    for request in (asked(QUESTION, max_tokens=500), asked("apple " * 600, max_tokens=None)):
        with pytest.raises(openai.BadRequestError, match="but the model's context is 512") as refusal:
            client.chat.completions.create(**request)
        assert refusal.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="120000 characters are more than the 512 tokens") as refusal:
        client.chat.completions.create(**asked("apple" * 24000))
    assert refusal.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="prompt: 120000 characters are more"):
        client.completions.create(model="softprompt", prompt="apple" * 24000)
    said = client.chat.completions.create(**asked("apple " * 150, max_tokens=None))  # what the context leaves
    assert said.usage
    assert said.usage.total_tokens <= 512


def test_bodies_that_are_no_json(address: str) -> None:
    url, header = f"{address}/chat/completions", {"Content-Type": "application/json"}
    for body in ("[", "[]", "\ud800".encode("utf-8", "surrogatepass")):
        response = httpx.post(url, content=body, headers=header)
        assert response.status_code == 400
        assert "JSON" in response.json()["error"]["message"]
    for half in (
        b'{"model": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"messages": [{"\\ud800": "\\ud800"}]}',
        b'{"prompt": "\\ud800"}',
    ):
        for endpoint in (url, f"{address}/completions"):
            response = httpx.post(endpoint, content=half, headers=header)
            assert response.status_code == 400
            assert "unpaired surrogates" in response.json()["error"]["message"]
    # As any page in a browser could send it.
    assert httpx.post(url, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(address: str, chunked: bool) -> None:
    body = b" " * 2**20 + b"{}"
    content = (body[start : start + 2**16] for start in range(0, len(body), 2**16)) if chunked else body
    header = {"Content-Type": "application/json"}
    response = httpx.post(f"{address}/chat/completions", content=content, headers=header)
    assert response.status_code == 413
    assert response.json()["error"]["message"] == "the body is too large; allowed: 1048576 bytes"


def test_of_many_faults_the_first_are_named(address: str) -> None:
    body = {"messages": [], **{f"temp{number}": 1 for number in range(50_000)}}
    response = httpx.post(f"{address}/chat/completions", json=body, timeout=60)
    assert response.status_code == 400
    assert response.json()["error"]["message"].count("unknown key") == 8


def test_another_name_of_the_host_is_refused(address: str) -> None:
    """A page in a browser whose own name leads to this address is of the same origin, and may read what it asks for."""
    port = address.rpartition(":")[2].partition("/")[0]
    for host, status in (("pages.example", 400), (f"pages.example:{port}", 400), (f"localhost:{port}", 200)):
        assert httpx.get(f"{address}/models", headers={"Host": host}).status_code == status
