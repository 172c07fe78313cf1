"""OpenAI's endpoints, as an ASGI application of Starlette."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from transformers import DynamicCache

from softprompt.config.evaluate import Generate
from softprompt.config.faults import shown
from softprompt.evaluation.answers import generation_config
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text
from softprompt.serving.answer_text import AnswerText
from softprompt.serving.batching import Batcher
from softprompt.serving.bodies import Body, ChatBody, TextBody
from softprompt.serving.forms import CHAT, TEXT, Form
from softprompt.serving.pending import Pending
from softprompt.serving.questions import chat_question, text_question
from softprompt.serving.refusals import INTERNAL, INVALID, RefusedError, error_body

if TYPE_CHECKING:
    from softprompt.evaluation.variants import Variants

MOST_BYTES = 2**20  # of a request: while it is read and made tokens, nothing else is answered
FAILED = "the server failed; its own output says why"
CLIENT_GONE = 499  # nginx's status; nobody reads it


class Api:
    """The endpoints.

    Args:
        batcher: what answers.
        name: what requests call the model.
        usual: how answers are generated unless a request says otherwise; `max_new_tokens` counts where the context has
            room for so many.
        hosts: what requests may call the server in the header Host; "*": anything.
    """

    def __init__(self, batcher: Batcher, name: str, usual: Generate, hosts: Sequence[str]) -> None:
        self.batcher, self.name, self.usual, self.hosts = batcher, name, usual, hosts
        self.started, self.answered = int(time.time()), 0
        self.variants: Variants = batcher.variants
        model, template = self.variants.model, self.variants.template
        self.ends = generation_config(usual, model.frozen, template.end_id).eos_token_id
        # Keys and values can't be used where rotary embeddings change with the length.
        bound = model.steady if isinstance(model.prompt(), DynamicCache) else self.variants.context
        self.context = min(self.variants.context, bound)

    def application(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/health", self.health),
            Route("/v1/models", self.models),
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.text, methods=["POST"]),
        ]
        handlers: dict[Any, Any] = {RefusedError: _refused, HTTPException: _not_served, Exception: _failed}
        # A page in a browser whose own name leads here would be of the same origin.
        guard = Middleware(TrustedHostMiddleware, allowed_hosts=self.hosts, www_redirect=False)
        return Starlette(routes=routes, exception_handlers=handlers, middleware=[guard])

    async def health(self, request: Request) -> Response:
        """That the server is up, and how busy it is."""
        return JSONResponse({"status": "ok", "answered": self.answered, **self.batcher.counts()})

    async def models(self, request: Request) -> Response:
        """The one model."""
        model = {"id": self.name, "object": "model", "created": self.started, "owned_by": "softprompt"}
        return JSONResponse({"object": "list", "data": [model]})

    async def chat(self, request: Request) -> Response:
        """The answer to a conversation, in the template of the adapter's training."""
        body = ChatBody.of(await _json(request))
        self._check_name(body)
        question = chat_question(self.variants, body.messages)
        pending = self._pending(body, question, "messages", self.variants.template.lead)
        return await self._response(request, body, pending, CHAT)

    async def text(self, request: Request) -> Response:
        """What follows a text, without a template."""
        body = TextBody.of(await _json(request))
        self._check_name(body)
        pending = self._pending(body, text_question(self.variants, body.prompt), "prompt", "")
        return await self._response(request, body, pending, TEXT)

    def _check_name(self, body: Body) -> None:
        if body.model not in (None, self.name):
            raise RefusedError(
                f"model: there is no {shown(body.model)}; served here: {self.name}",
                status=404,
                param="model",
                code="model_not_found",
            )

    def _pending(self, body: Body, question: list[int], param: str, lead: str) -> Pending:
        ahead, usual = self.variants.virtual_tokens, self.usual
        room = self.context - ahead - len(question)
        new_tokens = body.new_tokens or max(1, min(room, usual.max_new_tokens or room))
        if new_tokens > room:
            raise RefusedError(
                f"tuned prompt ({ahead} tokens), question with its template ({len(question)}) and answer (max_tokens "
                f"{new_tokens}) make {ahead + len(question) + new_tokens} tokens, but the model's context is "
                f"{self.context}; ask a shorter question, or lower max_tokens",
                param=param,
                code="context_length_exceeded",
            )
        text = AnswerText(self.variants.tokenizer, self.ends, lead, body.stop)
        return Pending(question, body.settings(usual, new_tokens), body.seed, text)

    async def _response(self, request: Request, body: Body, pending: Pending, form: Form) -> Response:
        head = {"id": f"{form.prefix}{uuid.uuid4().hex}", "created": int(time.time()), "model": self.name}
        if body.stream:
            head["object"] = form.chunk
            events = self._events(pending, form, head, with_usage=body.stream_options.include_usage)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        answer, gone = asyncio.ensure_future(self._whole(pending)), asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                return Response(status_code=CLIENT_GONE)
            choice = {"index": 0, **form.whole(answer.result()), "logprobs": None}
        except InputError as error:
            raise RefusedError(str(error)) from None
        finally:
            pending.give_up()
            for task in (answer, gone):
                task.cancel()
        choice["finish_reason"] = pending.finish_reason
        return JSONResponse({**head, "object": form.kind, "choices": [choice], "usage": self._usage(pending)})

    async def _whole(self, pending: Pending) -> str:
        return "".join([piece async for piece in self._pieces(pending)])

    async def _pieces(self, pending: Pending) -> AsyncIterator[str]:
        self.batcher.put(pending)  # here: of a client that is gone already, nothing waits
        async for piece in pending.pieces():
            yield piece
        self.answered += 1

    async def _events(
        self, pending: Pending, form: Form, head: dict[str, Any], *, with_usage: bool
    ) -> AsyncIterator[str]:
        """Server-sent events: a chunk for each piece, and the end."""
        usage = {"usage": None} if with_usage else {}

        def chunk(content: dict[str, Any], finish_reason: str | None = None) -> str:
            choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
            return _event({**head, "choices": [choice], **usage})

        try:
            if form.first:
                yield chunk(form.first)
            async for piece in self._pieces(pending):
                yield chunk(form.piece(piece))
            yield chunk(form.last, pending.finish_reason)
            if with_usage:
                yield _event({**head, "choices": [], "usage": self._usage(pending)})
            yield "data: [DONE]\n\n"
        except RefusedError as error:
            yield _event(error.body)
        except InputError as error:
            yield _event(error_body(str(error), INVALID))
        except Exception:
            yield _event(error_body(FAILED, INTERNAL))
            raise
        finally:
            pending.give_up()

    def _usage(self, pending: Pending) -> dict[str, int]:
        given = self.variants.virtual_tokens + len(pending.question)
        return {
            "prompt_tokens": given,
            "completion_tokens": pending.tokens,
            "total_tokens": given + pending.tokens,
        }


async def _json(request: Request) -> Any:
    """The body of a request.

    Another type than JSON's is refused because a browser sends it for any page, without asking the server first.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError("the body has another type; send the header Content-Type: application/json", status=415)
    read = bytearray()
    try:
        async for part in request.stream():
            read += part
            if len(read) > MOST_BYTES:
                raise RefusedError(f"the body is too large; allowed: {MOST_BYTES} bytes", status=413)
        body = json.loads(read)
        text = json.dumps(body, ensure_ascii=False)
    except ClientDisconnect:
        raise RefusedError("the client went away", status=CLIENT_GONE) from None
    except (ValueError, RecursionError):
        raise RefusedError("the body is no JSON") from None
    if not is_text(text):
        raise RefusedError("the body has unpaired surrogates (\\ud800 to \\udfff); allowed: text without them")
    return body


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _refused(request: Request, error: RefusedError) -> Response:
    return JSONResponse(error.body, error.status)


def _not_served(request: Request, error: HTTPException) -> Response:
    message = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(error_body(message, INVALID), error.status_code, error.headers)


def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(FAILED, INTERNAL), 500)
