"""`softprompt push` and `--adapter hf://`: through the real `huggingface_hub`, to and from a hub on loopback."""

import hashlib
import json
from pathlib import Path

import pytest

from softprompt.cli.hub import PUBLISHED, REPORT_FILES
from softprompt.evaluation.headline import headline
from softprompt.evaluation.recorded import read_metrics
from softprompt.runtime.outputs import faults_in
from tests.cli.conftest import Command, change_origin, copy_of, invoke
from tests.cli.publishing import ASKED, TOKEN, command, hang_up, published
from tests.cli.test_generate import QUESTION, expected
from tests.clones import call
from tests.hub import Handler, Hub, status


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


def test_a_system_turn_does_not_end_the_settings(
    answer: Command, hub: Hub, name: str, repository: Path, tmp_path: Path
) -> None:
    system = "Write code in ````."
    answer("push", name, "--adapter", copy_of(repository / "models/adapter", tmp_path / "copy", system=system))
    card = published(hub, name)["README.md"].decode()
    assert json.loads(card.partition("\n`````json\n")[2].partition("\n`````\n")[0])["system"] == system


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


def test_results_that_can_not_be_read_stay_here(hub: Hub, name: str, repository: Path) -> None:
    """Those of another version, say, which dvc.lock does describe."""
    metrics, lock = repository / "results/metrics.json", repository / "dvc.lock"
    before, values = metrics.read_bytes(), json.loads(metrics.read_text(encoding="utf-8"))
    del values["verdict"]
    metrics.write_text(json.dumps(values), encoding="utf-8")
    digests = (hashlib.md5(content).hexdigest() for content in (before, metrics.read_bytes()))
    lock.write_text(lock.read_text(encoding="utf-8").replace(*digests), encoding="utf-8")
    try:
        result = invoke("push", name)
    finally:
        call(repository, "git checkout -q results/metrics.json dvc.lock")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("note: without results and report: results/metrics.json can't be read (verdict: ")
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
            (["writer/a", "--message", "\udcff"], "--message: '\\udcff' is not allowed; allowed: text in UTF-8"),
            (["writer/a", "--revision", "0" * 40], "allowed: the name of a branch"),
            (["writer/a", "--revision", "v\udcff"], "--revision: 'v\\udcff' is not allowed; allowed: the name of a"),
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

    @pytest.mark.parametrize(
        ("files", "named"),
        [
            (["config.json", "model.safetensors"], "config.json, model.safetensors"),
            (["model.onnx"], "model.onnx"),
            (["README.md"], "README.md"),
            (["README.md", "SHA256SUMS"], "README.md, SHA256SUMS"),
            (["a.h5", "b.ckpt", "c/d.msgpack", "e"], "a.h5, b.ckpt, c/d.msgpack, …"),
        ],
    )
    def test_a_repository_of_something_else(
        self, refusal: Command, hub: Hub, name: str, files: list[str], named: str
    ) -> None:
        there = dict.fromkeys([".gitattributes", *files], b"mine")
        hub.repository(name).commit(there)
        message = refusal("push", name)
        assert f"holds something else ({named}); name a new repository" in message
        assert published(hub, name) == there

    def test_a_push_at_the_same_time(self, answer: Command, refusal: Command, hub: Hub, name: str) -> None:
        answer("push", name)
        files = published(hub, name)

        def overtaken(handler: Handler) -> None:
            handler.send_listing(handler.path)
            hub.repositories["models", name].commit({**files, "report.md": b"another's"})

        hub.faults[f"/models/{name}"] = [overtaken]
        assert "has changed meanwhile; run the same command again" in refusal("push", name)
        assert published(hub, name)["report.md"] == b"another's"
        answer("push", name)
        assert published(hub, name) == files

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
