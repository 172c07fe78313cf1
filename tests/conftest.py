"""Fixtures: the toy project in a folder of its own, and stages run in it as DVC would, but in this process."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from softprompt.config.stage import run_stage
from tests.hub import Hub
from tests.toy import ROOT, STAGES, TOY, make_model, write_general, write_params, write_rows

# Tests run side by side, one process a core: each takes one thread, as long as nothing says otherwise.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# `huggingface_hub` reads these when it is first imported. No test can reach another hub, or a user's cache.
HUB, CACHE = Hub(), tempfile.TemporaryDirectory(prefix="hub-cache-")
os.environ |= {"HF_ENDPOINT": HUB.url, "HF_HOME": CACHE.name}
for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
    os.environ.pop(name, None)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a fifth of the time a test waits, for locks and for processes that are killed."""
    return (os.cpu_count() or 1) + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--runslow`, by the name that pytest's documentation gives it."""
    parser.addoption("--runslow", action="store_true", help="run what make test leaves out")


LONG = ("tests/pipeline/", "tests/test_benchmarks", "tests/test_reference", "tests/test_default", "tests/maintenance/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first: one of them alone at the end would keep a single process busy for minutes."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    if not config.getoption("--runslow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: make test-all, or --runslow, runs it"))


Run = Callable[..., None]
Refusal = Callable[..., str]


@pytest.fixture
def hub() -> Iterator[Hub]:
    """The hub on loopback, without faults of earlier tests."""
    HUB.requests.clear()
    yield HUB
    HUB.faults.clear()


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the toy model, to be read only."""
    return make_model(tmp_path_factory.mktemp("toy") / "model")


def set_up(folder: Path, toy_model: Path) -> None:
    """The toy's model, rows, general text, graph and params in `folder`."""
    shutil.copytree(toy_model, folder / "toy/model")
    write_rows(folder)
    write_general(folder)
    shutil.copy(ROOT / "dvc.yaml", folder)
    write_params(folder, **TOY)


def run_stages(*names: str) -> None:
    """Run the named stages in the current folder, under the guard that `python -m stages.NAME` has."""
    for name in names:
        run_stage(importlib.import_module(f"stages.{name}").main)


@pytest.fixture
def project(tmp_path: Path, toy_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the toy's model, rows and params, made the current one."""
    set_up(tmp_path, toy_model)
    monkeypatch.chdir(tmp_path)
    # The guard sets these for its own process, which here is pytest.
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1" if name != "TOKENIZERS_PARALLELISM" else "false")
    return tmp_path


@pytest.fixture
def run(project: Path) -> Run:
    """Run the named stages in the project."""
    return run_stages


@pytest.fixture
def refusal(run: Run, project: Path, capfd: pytest.CaptureFixture[str]) -> Refusal:
    """Run a stage that must refuse; return its message, having checked its form and that nothing is left behind."""

    def refusal(name: str, **changes: object) -> str:
        write_params(project, **changes)
        before = {path for path in project.rglob("*") if path.is_file()}
        with pytest.raises(SystemExit) as exit:
            run(name)
        message = exit.value.code
        assert isinstance(message, str), "sys.exit with a text prints it and exits with status 1"
        assert all(line.startswith("error: ") for line in message.splitlines())
        assert "Traceback" not in capfd.readouterr().err
        assert {path for path in project.rglob("*") if path.is_file()} <= before, "something half written was left"
        return message

    return refusal


@pytest.fixture(scope="session")
def finished(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project after all stages, to be read only."""
    folder = tmp_path_factory.mktemp("finished")
    set_up(folder, toy_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stages(*STAGES)
    return folder


@pytest.fixture
def finished_project(finished: Path, project: Path) -> Path:
    """The toy project after all stages, to be changed; the current folder."""
    return shutil.copytree(finished, project, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Of a module, not of the session: while it runs, no other event loop can in this thread."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        message = "no Chromium found: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
