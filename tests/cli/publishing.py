"""What tests of publishing share: the hub's files, and commands in processes of their own."""

import subprocess
import sys
from pathlib import Path

from tests.cli.test_generate import QUESTION
from tests.clones import OURS, environment
from tests.hub import Handler, Hub

TOKEN = "hf_secretsecretsecret"
ASKED = ("generate", QUESTION, "--max-new-tokens", "12", "--adapter")


def hang_up(handler: Handler) -> None:
    """Answer nothing, and end the connection."""
    handler.close_connection = True


def published(hub: Hub, name: str, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories["models", name]
    return repository.commits[repository.branches[branch]]


def command(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which decides for itself whether it may reach the hub."""
    line = [sys.executable, "-m", "softprompt.cli", *arguments]
    settings = {"PYTHONPATH": OURS, "HF_HUB_DISABLE_XET": "1", **variables}
    return subprocess.run(line, cwd=folder, env=environment() | settings, capture_output=True, text=True)
