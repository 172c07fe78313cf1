"""The container's files agree with each other. No test builds it: that needs an engine, and minutes."""

import json
import re

from tests.toy import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
EDITOR = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))


def instructions(name: str) -> list[str]:
    return re.findall(rf"(?m)^{name} (.+)$", DOCKERFILE)


def test_the_editors_container_is_that_of_the_dockerfile() -> None:
    folder = ROOT / ".devcontainer"
    assert (folder / EDITOR["build"]["dockerfile"]).samefile(ROOT / "Dockerfile")
    assert (folder / EDITOR["build"]["context"]).samefile(ROOT)
    assert set(EDITOR["build"]["args"]) == {line.partition("=")[0] for line in instructions("ARG")}
    assert [EDITOR["workspaceFolder"]] == instructions("WORKDIR")
    mounts = [EDITOR["workspaceMount"], *EDITOR["mounts"]]
    targets = [dict(part.split("=") for part in mount.split(","))["target"] for mount in mounts]
    assert targets == ["/softprompt", "/softprompt/.venv"]
    assert f"useradd --create-home --uid {instructions('USER')[0]} {EDITOR['remoteUser']}" in DOCKERFILE


def test_the_small_torch_comes_as_the_page_says() -> None:
    """By uv, which knows where torch's builds are."""
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    wanted = re.search(r"(?m)^uv (pip install .+)$", page)
    assert wanted
    assert wanted[1].replace("auto", "cpu") in DOCKERFILE


def test_nothing_but_git_gets_into_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["*", "!.git"]
