"""The server's two threads: HTTP in one of its own, the model in the main one, as in every other command."""

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import uvicorn

from softprompt.serving.api import Api
from softprompt.serving.batching import Batcher

if TYPE_CHECKING:
    import socket

    from softprompt.config.evaluate import Generate
    from softprompt.evaluation.variants import Variants

SECONDS = 1  # that answers have to end once the server ends


def run_server(
    listener: "socket.socket",
    variants: "Variants",
    name: str,
    usual: "Generate",
    *,
    hosts: Sequence[str],
    max_batch: int,
    ready: str,
) -> None:
    """Serve until Ctrl-C, which goes to the main thread: there it ends a batch at once.

    Args:
        listener: a socket that listens.
        variants: the loaded model.
        name: what requests call the model.
        usual: how answers are generated unless a request says otherwise.
        hosts: what requests may call the server in the header Host; "*": anything.
        max_batch: questions of a batch at most.
        ready: what to print once questions are answered.

    Raises:
        RuntimeError: if uvicorn ends by itself, having said why.
    """
    batcher = Batcher(variants, max_batch)
    application = Api(batcher, name, usual, hosts).application()
    config = uvicorn.Config(
        application, lifespan="off", log_level="error", access_log=False, timeout_graceful_shutdown=SECONDS
    )
    server = uvicorn.Server(config)

    def serve() -> None:
        try:
            server.run(sockets=[listener])
        finally:
            batcher.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    print(ready, flush=True)
    try:
        batcher.run()
    finally:
        # Whoever neither asks on nor takes the answer is cut off, which uvicorn reports as a fault.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.should_exit = True
        thread.join(2 * SECONDS)
    raise RuntimeError("the HTTP server ended by itself")
