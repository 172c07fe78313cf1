"""`softprompt push` and `--adapter hf://`: through the real `huggingface_hub`, to and from a hub on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from softprompt.cli.hub import PUBLISHED, REPORT_FILES
from softprompt.evaluation.headline import headline
from softprompt.evaluation.recorded import read_metrics
from softprompt.runtime.outputs import faults_in
from tests.cli.conftest import Command, change_origin, copy_of, invoke
from tests.cli.test_generate import QUESTION, expected
from tests.clones import call, environment
from tests.hub import Handler, Hub, Repository, status, wrong_bytes
from tests.toy import ROOT

TOKEN = "hf_secretsecretsecret"
NUMBER = count()
ASKED = ("generate", QUESTION, "--max-new-tokens", "12", "--adapter")


@pytest.fixture
def name(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """OWNER/NAME of a repository that is not there yet, which the token may make."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # as HF_HUB_DISABLE_XET=1 at the start
    hub.writers["writer"] = TOKEN
    hub.messages.clear()
    yield f"writer/adapter-{next(NUMBER)}"
    hub.writers.clear()


def hang_up(handler: Handler) -> None:
    """Answer nothing, and end the connection."""
    handler.close_connection = True


def published(hub: Hub, name: str, branch: str = "main") -> dict[str, bytes]:
    repository = hub.repositories["models", name]
    return repository.commits[repository.branches[branch]]


def command(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which decides for itself whether it may reach the hub."""
    line = [sys.executable, "-m", "softprompt.cli", *arguments]
    settings = {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", **variables}
    return subprocess.run(line, cwd=folder, env=environment() | settings, capture_output=True, text=True)


def test_what_is_pushed_answers_the_same_from_there(repository: Path, hub: Hub, name: str, tmp_path: Path) -> None:
    pushed = command("push", name, folder=repository / "models")
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stderr == ""
    commit = hub.repositories["models", name].branches["main"]
    assert pushed.stdout == (
        f'hf://{name} is at commit {commit}; softprompt generate --adapter hf://{name}@{commit} "…"\n'
    )
    assert TOKEN not in pushed.stdout
    assert [path for _, path, _ in hub.requests if "/commit/" in path] == [f"/api/models/{name}/commit/main"]
    files = published(hub, name)
    assert files.keys() == {".gitattributes", *PUBLISHED}
    for file in PUBLISHED:
        (tmp_path / file).write_bytes(files[file])
    assert faults_in(tmp_path) == []
    for file in REPORT_FILES:
        assert files[file] == (repository / "results" / file).read_bytes()

    hub.requests.clear()
    asked = command(*ASKED, f"hf://{name}", folder=repository)
    assert asked.stdout == expected("tuned", QUESTION, new_tokens=12) + "\n", asked.stderr
    assert asked.stderr == "note: the answer was truncated after 12 tokens; --max-new-tokens allows more\n"
    assert hub.requests
    assert all(name in path for _, path, _ in hub.requests), "nothing else is asked of the hub"

    hub.requests.clear()
    again = command(*ASKED, f"hf://{name}@{commit}", folder=repository, HF_HUB_OFFLINE="1")
    assert again.stdout == asked.stdout, again.stderr
    assert hub.requests == []


def test_the_card(answer: Command, hub: Hub, name: str, repository: Path) -> None:
    answer("push", name)
    card = published(hub, name)["README.md"].decode()
    own = (repository / "models/adapter/README.md").read_text(encoding="utf-8")
    assert card.startswith(own)
    assert f"softprompt generate --adapter hf://{name} " in card
    assert headline(read_metrics()) in card
    settings = json.loads(card.partition("```json\n")[2].partition("```")[0])
    assert settings["template"] == "chat"
    assert settings["date"] == "2026-01-01"


def test_it_is_taken_wherever_an_adapter_is(answer: Command, hub: Hub, name: str, tmp_path: Path) -> None:
    address = f"hf://{name}"
    answer("push", name)
    lines = json.loads(answer("provenance", address, "--json"))
    assert lines["verified"]
    compared = json.loads(answer("compare", "workspace", address, "--json"))["compared"]
    assert compared[-1]["name"] == address
    assert compared[-1]["loss"] == compared[-2]["loss"]
    answer("export", "embeddings", tmp_path / "here")
    answer("export", "embeddings", tmp_path / "there", "--adapter", address)
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    assert answer("chat", "--adapter", address, "--max-new-tokens", 12, stdin=f"{QUESTION}\n") == (
        expected("tuned", QUESTION, new_tokens=12) + "\n"
    )


def test_a_dry_run_asks_no_network(repository: Path, hub: Hub, name: str) -> None:
    shown = command("push", name, "--dry-run", "--revision", "v2", folder=repository, HF_TOKEN="")
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert [line[1] for line in lines[:-1]] == sorted(PUBLISHED)
    weights = (repository / "models/adapter/adapter_model.safetensors").stat().st_size
    assert [f"{weights:,}", "adapter_model.safetensors"] in lines
    assert lines[-1] == [f"hf://{name}@v2:", "nothing", "is", "uploaded", "(--dry-run)"]
    assert hub.requests == []


def test_another_adapter_takes_the_place_of_the_first_with_its_report(
    answer: Command, hub: Hub, name: str, repository: Path, tmp_path: Path
) -> None:
    answer("push", name)
    first = hub.repositories["models", name].branches["main"]
    (copy := copy_of(repository / "models/adapter", tmp_path / "copy")).joinpath("notes.txt").write_text("mine")
    assert "notes.txt is not in" in invoke("push", name, "--adapter", copy).output
    (copy / "notes.txt").unlink()
    answer("push", name, "--adapter", copy, "--message", "Another one")
    files = published(hub, name)
    assert files.keys() == {".gitattributes", *PUBLISHED} - set(REPORT_FILES)
    assert "No results were published" in files["README.md"].decode()
    assert hub.messages[-1] == "Another one"
    answer(*ASKED, f"hf://{name}")
    answer(*ASKED, f"hf://{name}@{first}")
    answer("push", name, "--adapter", f"hf://{name}")  # itself: its card is the same again
    assert published(hub, name) == files


def test_results_that_are_not_of_the_adapter_stay_here(hub: Hub, name: str, repository: Path) -> None:
    metrics = repository / "results/metrics.json"
    metrics.write_text(metrics.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    try:
        result = invoke("push", name)
    finally:
        call(repository, "git checkout -q results/metrics.json")
    assert result.exit_code == 0, result.output
    assert "note: without results and report" in result.stderr
    assert "results/metrics.json is not the one that dvc.lock describes" in result.stderr
    assert not set(REPORT_FILES) & published(hub, name).keys()
    assert "No results were published" in published(hub, name)["README.md"].decode()


def test_results_of_an_earlier_adapter_stay_here(hub: Hub, name: str, repository: Path) -> None:
    """By dvc.lock: train has run again, and evaluate has not."""
    lock = repository / "dvc.lock"
    text = lock.read_text(encoding="utf-8")
    before, evaluated = text.split("\n  evaluate:\n")
    digest = evaluated.split("path: models/adapter\n")[1].split("md5: ")[1][:32]
    lock.write_text(f"{before}\n  evaluate:\n{evaluated.replace(digest, '0' * 32)}", encoding="utf-8")
    try:
        result = invoke("push", name)
    finally:
        call(repository, "git checkout -q dvc.lock")
    assert "evaluate has read another models/adapter than train has written" in result.stderr
    assert not set(REPORT_FILES) & published(hub, name).keys()


def test_a_private_repository_and_a_branch(
    answer: Command, hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch, refusal: Command
) -> None:
    answer("push", name, "--private", "--revision", "v2")
    repository = hub.repositories["models", name]
    assert repository.private
    assert set(published(hub, name)) == {".gitattributes"}
    answer(*ASKED, f"hf://{name}@v2")
    assert "has no SHA256SUMS, adapter_config.json" in refusal(*ASKED, f"hf://{name}")
    monkeypatch.delenv("HF_TOKEN")
    hub.repositories["models", f"{name}-b"] = hub.repositories["models", name]  # of which the cache has nothing
    assert "or a private one" in refusal(*ASKED, f"hf://{name}-b@v2")


class TestRefusalsOfPush:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["adapter"], "'adapter' is no name of a repository; allowed: OWNER/NAME"),
            (["hf://writer/adapter"], "is no name of a repository; allowed: OWNER/NAME"),
            (["writer/a--b"], "hf://writer/a--b is no name of a repository; allowed: letters"),
            (["writer/a", "--message", " "], "--message is empty"),
            (["writer/a", "--revision", "0" * 40], "allowed: the name of a branch"),
            (["writer/a", "--adapter", "nowhere"], "nowhere is no adapter"),
            (["another/a"], "hf://another/a is refused by the hub (403): log in (hf auth login) or set HF_TOKEN"),
        ],
    )
    def test_arguments(self, refusal: Command, hub: Hub, name: str, arguments: list[str], message: str) -> None:
        assert message in refusal("push", *arguments)
        assert not [path for method, path, _ in hub.requests if method == "PUT" or "/commit/" in path]

    def test_no_token_and_one_that_is_not_allowed(
        self, refusal: Command, hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_anothersecret")
        message = refusal("push", name)
        assert "(403)" in message
        assert "token that may write it" in message
        assert "anothersecret" not in message
        monkeypatch.delenv("HF_TOKEN")
        hub.requests.clear()
        assert "needs a token that may write: log in (hf auth login) or set HF_TOKEN" in refusal("push", name)
        assert hub.requests == []

    @pytest.mark.parametrize(
        ("ending", "fault", "message"),
        [
            ("/commit/main", status(500), "answers 500; try again later"),
            ("/commit/main", status(403), "is refused by the hub (403)"),
            ("/commit/main", status(429), "is asked for too often (429)"),
            ("/commit/main", status(400), "answers 400; check the name and the revision"),
            ("/objects/batch", status(403), "is refused by the hub (403)"),
            ("/commit/main", hang_up, "can't be reached at http://127.0.0.1"),
        ],
    )
    def test_nothing_is_half_uploaded(
        self, refusal: Command, hub: Hub, name: str, ending: str, fault: object, message: str
    ) -> None:
        hub.faults[ending] = [fault] * 6  # the client asks again where it may
        shown = refusal("push", name)
        assert message in shown
        assert len(shown.splitlines()) == 1
        assert TOKEN not in shown
        assert set(published(hub, name)) == {".gitattributes"}

    def test_a_repository_of_something_else(self, refusal: Command, hub: Hub, name: str) -> None:
        model = {"config.json": b"{}", "model.safetensors": b"x"}
        hub.repository(name).commit(model)
        assert "holds something else (config.json, model.safetensors)" in refusal("push", name)
        assert published(hub, name) == model

    def test_private_is_not_public(self, refusal: Command, hub: Hub, name: str) -> None:
        hub.repository(name).commit({".gitattributes": b""})
        assert "exists and is public" in refusal("push", name, "--private")
        assert set(published(hub, name)) == {".gitattributes"}

    def test_a_hub_without_xet_storage(
        self, refusal: Command, hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
        assert "where it has no Xet storage, set HF_HUB_DISABLE_XET=1" in refusal("push", name)

    def test_an_adapter_that_dvc_lock_does_not_describe(
        self, refusal: Command, hub: Hub, name: str, adapter: Path
    ) -> None:
        change_origin(adapter, base_model="elsewhere")
        assert "models/adapter is not the one that dvc.lock describes" in refusal("push", name)
        assert hub.requests == []


class TestRefusalsOfAnAddress:
    @pytest.fixture
    def there(self, answer: Command, hub: Hub, name: str) -> Repository:
        answer("push", name)
        hub.requests.clear()
        return hub.repositories["models", name]

    @pytest.mark.parametrize("address", ["hf://owner", "hf://", "hf://a/b@", "hf://a/b#c", "hf://a/b/c"])
    def test_a_malformed_one(self, refusal: Command, hub: Hub, address: str) -> None:
        hub.requests.clear()
        assert "allowed: hf://OWNER/NAME, hf://OWNER/NAME@REVISION" in refusal(*ASKED, address)
        assert hub.requests == []

    def test_no_such_repository_or_revision(self, refusal: Command, name: str, there: Repository) -> None:
        assert "is no model repository at http://127.0.0.1" in refusal(*ASKED, f"hf://{name}-x")
        assert f"hf://{name}@v9 has no such revision" in refusal(*ASKED, f"hf://{name}@v9")

    def test_gated(self, refusal: Command, name: str, there: Repository) -> None:
        there.token = "hf_other"
        assert "is gated: accept its terms" in refusal(*ASKED, f"hf://{name}")

    def test_out_of_reach(self, repository: Path, name: str) -> None:
        for variables, message in (
            ({"HF_HUB_OFFLINE": "1"}, "can't be reached offline (HF_HUB_OFFLINE), and is not in the cache; unset it"),
            (
                {"HF_ENDPOINT": "http://127.0.0.1:9"},
                "can't be reached at http://127.0.0.1:9 (ConnectError), and is not",
            ),
        ):
            out = command(*ASKED, f"hf://{name}", folder=repository, **variables)
            assert out.returncode == 1
            assert message in out.stderr
            assert len(out.stderr.splitlines()) == 1

    def test_wrong_bytes_do_not_stay(self, refusal: Command, answer: Command, hub: Hub, name: str, there: Repository):
        hub.faults["origin.json"] = [wrong_bytes]
        message = refusal(*ASKED, f"hf://{name}")
        assert f"hf://{name}: origin.json is damaged" in message
        assert "it was removed from the cache" in message
        assert str(Path(os.environ["HF_HOME"])) not in message.partition("(its SHA-256")[0]
        answer(*ASKED, f"hf://{name}")

    def test_pickled_weights_are_not_fetched(self, refusal: Command, hub: Hub, name: str, there: Repository) -> None:
        files = published(hub, name)
        del files["adapter_model.safetensors"]
        there.commit({**files, "adapter_model.bin": b"pickle", "code.py": b"1"})
        message = refusal(*ASKED, f"hf://{name}")
        assert "it has no adapter_model.safetensors" in message
        assert not {"adapter_model.bin", "code.py"} & set(hub.downloads())

    def test_files_beside_the_adapter_do_not_matter(
        self, answer: Command, hub: Hub, name: str, there: Repository
    ) -> None:
        there.commit({**published(hub, name), "adapter_model.bin": b"pickle", "picture.png": b"x"})
        answer(*ASKED, f"hf://{name}")
        assert not {"adapter_model.bin", "picture.png"} & set(hub.downloads())

    def test_a_manifest_that_names_more(self, refusal: Command, hub: Hub, name: str, there: Repository) -> None:
        files = published(hub, name)
        there.commit({**files, "x.bin": b"x", "SHA256SUMS": files["SHA256SUMS"] + b"0" * 64 + b"  x.bin\n"})
        assert f"hf://{name}: x.bin is missing" in refusal(*ASKED, f"hf://{name}")
        assert "x.bin" not in hub.downloads()

    def test_of_another_model(
        self, refusal: Command, answer: Command, name: str, repository: Path, tmp_path: Path
    ) -> None:
        answer("push", name, "--adapter", copy_of(repository / "models/adapter", tmp_path / "a", base_sha256="f" * 64))
        assert "was tuned on another model" in refusal(*ASKED, f"hf://{name}")
