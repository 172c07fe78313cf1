"""`softprompt serve`: the tuned model as a server that OpenAI's clients can ask."""

import importlib.util
import ipaddress
import os
import socket
from typing import Annotated

import typer

from softprompt.cli.loading import enter_repository, load_variants
from softprompt.cli.options import NEW_TOKENS, Adapter
from softprompt.config import load_params
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text

INSTALL = "pip install 'starlette>=1.10,<2' 'uvicorn>=0.54,<0.55'"


def serve(
    *,
    adapter: Adapter = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: all of this machine's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any free one.", min=0, max=65535)] = 8000,
    name: Annotated[str, typer.Option(help="What requests call the model.")] = "softprompt",
    max_batch: Annotated[int, typer.Option(help="Questions answered at once, at most.", min=1)] = 16,
) -> None:
    """Serve the tuned model to OpenAI's clients.

    It answers POST /v1/chat/completions in the template of the adapter's training, and POST /v1/completions without a
    template; GET /v1/models names the model, GET /health says how busy it is. Settings that a request leaves out are
    those of evaluate.generate in params.yaml. Whoever reaches the port may ask: there are no keys. Ctrl-C ends it.
    """
    enter_repository()
    if any(importlib.util.find_spec(package) is None for package in ("starlette", "uvicorn")):
        raise InputError(f"softprompt serve needs two more packages: {INSTALL}")
    if not host:
        raise InputError("--host is empty; allowed: an address, or 0.0.0.0 for all")
    if not is_text(name) or not name.strip():
        raise InputError("--name: allowed: text of at least one character")
    params = load_params()
    with _listening(host, port) as listener:  # before the model loads: a port in use costs no wait
        variants = load_variants(adapter, params)
        from softprompt.serving.server import run_server

        shown = f"[{host}]" if ":" in host else host
        ready = f"{name} is served at http://{shown}:{listener.getsockname()[1]}/v1; Ctrl-C ends it"
        is_local = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
        hosts = ["localhost", "127.0.0.1", "[::1]", shown] if is_local else ["*"]
        usual = params.evaluate.generate.model_copy(update={"max_new_tokens": NEW_TOKENS})
        try:
            run_server(listener, variants, name, usual, hosts=hosts, max_batch=max_batch, ready=ready)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the server has ended") from None


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
        return socket.create_server(address, family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        raise InputError(f"can't listen at {host}, port {port}: {reason}; choose another --port or --host") from None
