"""What is installed: declared, locked, and in `.venv`, which make keeps where it fits: place, Python, whole."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.clones import call
from tests.toy import ROOT

BUILT = ("venv --clear .venv", "pip install")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What an installation reads, with no requirements, which take a minute, and an environment that looks whole."""
    folder = tmp_path / "Zoë's check out"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    bare = re.sub(r"(?ms)^dependencies = \[$.*?^\]$", "dependencies = []", text)
    (folder / "pyproject.toml").write_text(bare, encoding="utf-8")
    for name in ("requirements.lock", "requirements-dev.lock"):
        (folder / name).touch()
    (folder / "softprompt/provenance").mkdir(parents=True)
    (folder / "softprompt/__init__.py").touch()
    shutil.copy(ROOT / "softprompt/provenance/versions.py", folder / "softprompt/provenance")
    subprocess.run([sys.executable, "-m", "venv", ".venv"], cwd=folder, check=True)
    (folder / ".venv/installed").touch()
    return folder


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """A Python that is installed elsewhere: the same program with its library beside it."""
    python = Path(sys.executable).resolve()
    library = Path("lib") / f"python{sys.version_info.major}.{sys.version_info.minor}"
    for part in ("bin", "lib"):
        (tmp_path / "python" / part).mkdir(parents=True)
    (tmp_path / "python" / library).symlink_to(Path(sys.base_prefix) / library)
    return shutil.copy(python, tmp_path / "python/bin/python3")


def make(folder: Path, *arguments: str, ok: bool = True, **environment: str) -> str:
    plain = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "PYTHON")}
    command = ["make", ".venv/installed", *arguments]
    result = subprocess.run(command, cwd=folder, env=plain | environment, capture_output=True, text=True)
    assert (result.returncode == 0) == ok, result.stdout + result.stderr
    return result.stdout


def rebuilds(output: str) -> bool:
    assert any(part in output for part in BUILT) == all(part in output for part in BUILT)
    return BUILT[0] in output


def test_what_was_moved_or_copied_is_built_anew(project: Path, tmp_path: Path) -> None:
    assert not rebuilds(make(project, "--dry-run"))
    copied = shutil.copytree(project, tmp_path / "copy", symlinks=True)
    assert rebuilds(make(copied, "--dry-run"))
    moved = project.rename(tmp_path / "Zoë's moved")
    make(moved, ok=False, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert rebuilds(make(moved, "--dry-run")), "an installation that failed is none"
    assert "it is built anew" in make(moved)
    assert str(moved) in subprocess.check_output([".venv/bin/pip", "--version"], cwd=moved, text=True)
    for command in ("softprompt", "prompt-tuning"):
        assert (moved / ".venv/bin" / command).is_file()
    assert not rebuilds(make(moved, "--dry-run"))


def test_an_environment_whose_own_file_names_no_place(project: Path, tmp_path: Path) -> None:
    """As uv's: make takes it where .venv/installed names the checkout, which the README's line for uv writes there."""
    (project / ".venv/pyvenv.cfg").write_text(
        f"home = {Path(sys.base_prefix) / 'bin'}\nuv = 0.13.9\n", encoding="utf-8"
    )
    assert rebuilds(make(project, "--dry-run"))
    (project / ".venv/installed").write_text(f"{project.resolve()}\n", encoding="utf-8")
    assert not rebuilds(make(project, "--dry-run"))
    assert rebuilds(make(project.rename(tmp_path / "moved"), "--dry-run"))


def test_another_environment_behind_a_link_stays(project: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for name in ("Makefile", "requirements.lock"):
        shutil.copy(project / name, tmp_path / "other")
    (tmp_path / "other/.venv").symlink_to(project / ".venv")
    make(tmp_path / "other", ok=False)  # there is nothing to install
    assert not rebuilds(make(project, "--dry-run"))


def test_the_python_that_is_named_is_the_one_of_the_environment(project: Path, another: Path) -> None:
    assert not rebuilds(make(project, "--dry-run", f"PYTHON={sys.executable}"))
    assert not rebuilds(make(project, "--dry-run", PYTHON=sys.executable))
    assert rebuilds(make(project, "--dry-run", f"PYTHON={another}"))
    assert rebuilds(make(project, "--dry-run", PYTHON=str(another)))
    subprocess.run([another, "-m", "venv", "--without-pip", "--clear", ".venv"], cwd=project, check=True)
    (project / ".venv/installed").touch()
    assert not rebuilds(make(project, "--dry-run")), "none is named"
    assert rebuilds(make(project, "--dry-run", f"PYTHON={sys.executable}"))


def test_users_and_developers_get_what_they_need() -> None:
    """Read off what make would run in a new clone."""
    users, developers = "--requirement requirements.lock", "--requirement requirements-dev.lock"
    for target in ("setup", "repro", "ci", "unlock", "repair", "sweep", "search", "remote", "benchmark"):
        plan = call(ROOT, f"unset MAKEFLAGS; make --dry-run --what-if=requirements.lock {target}")
        assert users in plan, target
        assert developers not in plan, target
        assert target != "setup" or ("dvc repro" not in plan and "softprompt.config" not in plan)
    for target in ("test", "lint", "lock"):
        plan = call(ROOT, f"unset MAKEFLAGS; make --dry-run --what-if=requirements.lock {target}")
        assert plan.index(users) < plan.index(developers), target


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("stages", "softprompt"), ("harness", "modelscope", "serve", "trackers")),
        (("experiments", "benchmarks"), ("modelscope", "sweeps")),
    ],
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], extras: tuple[str, ...]) -> None:
    lines = PROJECT["dependencies"] + [line for name in extras for line in optional(name)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    providers = metadata.packages_distributions()
    ours = {"stages", "softprompt", "experiments", "benchmarks"} | sys.stdlib_module_names
    imported = {name for folder in folders for path in (ROOT / folder).rglob("*.py") for name in imports(path)}
    assert len(imported) > 10
    undeclared = {
        name
        for name in imported - ours
        if not declared & {canonicalize_name(provider) for provider in providers.get(name, [])}
    }
    assert undeclared == set()


def optional(extra: str) -> list[str]:
    return PROJECT["optional-dependencies"][extra]


def imports(path: Path) -> set[str]:
    """First parts of the names that a file imports, wherever in it."""
    nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in names}


def test_the_locks_have_all_that_is_declared_with_hashes() -> None:
    """All but torch, whose build differs by machine. What developers have beyond users is no user's."""
    users, developers = locked("requirements.lock"), locked("requirements-dev.lock")
    assert users.items() < developers.items()
    extra = [line for name in PROJECT["optional-dependencies"] if name != "sweeps" for line in optional(name)]
    for lock, lines in ((users, PROJECT["dependencies"] + optional("sweeps")), (developers, extra)):
        for requirement in map(Requirement, lines):
            name = canonicalize_name(requirement.name)
            assert (name in lock) == (name != "torch"), name
            assert name == "torch" or requirement.specifier.contains(lock[name]), name
    tools = {"moto", "mypy", "pip-tools", "playwright", "pytest", "ruff", "zizmor"}
    assert tools < developers.keys()
    assert not tools & users.keys()


def locked(name: str) -> dict[str, str]:
    """Package to version, of a lock in which each has a hash and nothing else stands."""
    text = (ROOT / name).read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n", text, re.M)
    assert "".join(f"{package}=={version}{hashes}\n" for package, version, hashes in pins) == text
    return {package: version for package, version, _ in pins}
