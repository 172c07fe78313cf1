"""hf:// through the real `huggingface_hub`, from a hub on loopback."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from softprompt.runtime.errors import InputError
from softprompt.sources import fetched
from softprompt.sources.checkpoint import select_model_files
from tests.clones import OURS
from tests.hub import Hub, Repository, cut, shorter, status, wrong_bytes
from tests.toy import model_params

TOKEN = "hf_secretsecretsecret"


def files_of(model: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.iterdir()}


@pytest.fixture
def model(hub: Hub, name: str, toy_model: Path) -> Repository:
    """The toy as a repository, with files that nobody needs."""
    repository = hub.repository(name)
    more = {"pytorch_model.bin": b"pickle", "optimizer.pt": b"x", "README.md": b"# toy", "onnx/model.safetensors": b"y"}
    repository.commit({**files_of(toy_model), **more})
    return repository


def fetch(source: str, revision: str | None = None, *, checked: bool = True) -> tuple[dict[str, bytes], dict]:
    """What `source` gives; `checked`: whether it has to be a whole model."""
    select = select_model_files if checked else lambda files: files
    with fetched(model_params(source, revision=revision), "model", select) as found:
        return {path.name: path.read_bytes() for path in found.files}, dict(found.record)


def refused(source: str, revision: str | None = None) -> str:
    with pytest.raises(InputError) as error:
        fetch(source, revision)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert TOKEN not in message
    return message


def test_only_what_is_needed_is_fetched_and_the_commit_recorded(hub, name, model, toy_model) -> None:
    files, record = fetch(f"hf://{name}")
    wanted = {path.name for path in select_model_files(list(toy_model.iterdir()))}
    assert files == {file: content for file, content in files_of(toy_model).items() if file in wanted}
    assert record["commit"] == model.branches["main"]
    assert record["revision"] is None
    assert not {"pytorch_model.bin", "optimizer.pt", "README.md"} & set(hub.downloads())
    assert len(hub.downloads()) == len(files)


def test_a_second_fetch_downloads_nothing(hub, name, model) -> None:
    first = fetch(f"hf://{name}")
    hub.requests.clear()
    assert fetch(f"hf://{name}") == first
    assert hub.downloads() == []


def test_branches_tags_and_commits(hub, name, model, toy_model) -> None:
    config = json.loads((toy_model / "config.json").read_text())
    old = model.branches["main"]
    new = model.commit({**model.commits[old], "config.json": json.dumps({**config, "x": 1}).encode()}, "v2")
    for revision, commit in ((None, old), ("main", old), (old, old), ("v2", new), (new, new)):
        files, record = fetch(f"hf://{name}", revision)
        assert record["commit"] == commit
        assert files["config.json"] == model.commits[commit]["config.json"]


def test_one_named_file(hub, name) -> None:
    hub.repository(name).commit({"a-Q4.gguf": b"GGUF a", "b-Q8.gguf": b"GGUF b"})
    assert fetch(f"hf://{name}#a-Q4.gguf")[0] == {"a-Q4.gguf": b"GGUF a"}
    assert "no file c.gguf in the repository; it holds a-Q4.gguf, b-Q8.gguf" in refused(f"hf://{name}#c.gguf")


def test_a_sharded_model_needs_all_of_its_shards(hub, name, model, toy_model) -> None:
    weights = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    files = {file: content for file, content in files_of(toy_model).items() if not file.endswith(".safetensors")}
    files |= {"model.safetensors.index.json": json.dumps(weights).encode()}
    model.commit({**files, "model-00001-of-00002.safetensors": b"x"}, "half")
    assert "model-00002-of-00002.safetensors missing" in refused(f"hf://{name}", "half")


def test_a_moved_branch_is_a_message(hub, name, model, capfd, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    old = model.branches["main"]
    fetch(f"hf://{name}", "main")
    fetch(f"hf://{name}", "main")
    assert "moved" not in capfd.readouterr().out
    new = model.commit({**model.commits[old], "generation_config.json": b"{}"})
    fetch(f"hf://{name}", "main")
    message = capfd.readouterr().out
    assert f"hf://{name}@main has moved since the last fetch, from {old} to {new}; to stay at one" in message
    fetch(f"hf://{name}", "main")
    assert "moved" not in capfd.readouterr().out


class TestFaults:
    def test_no_such_repository(self, hub, name) -> None:
        message = refused(f"hf://{name}")
        assert f"no such model repository at {hub.url}, or a private one" in message
        assert "HF_TOKEN" in message

    @pytest.mark.parametrize("source", ["hf://name", "hf://a/b/c", "hf://", "hf://a b/c"])
    def test_a_malformed_reference(self, source) -> None:
        assert "expected hf://OWNER/NAME" in refused(source)

    def test_no_such_revision(self, hub, name, model) -> None:
        assert "no revision 'v9'; model.revision is a commit, a tag or a branch" in refused(f"hf://{name}", "v9")

    def test_gated(self, hub, name, model, monkeypatch) -> None:
        model.token = TOKEN
        message = refused(f"hf://{name}")
        assert f"gated: accept its terms at {hub.url}/{name}, then log in" in message
        assert "HF_TOKEN" in message
        monkeypatch.setenv("HF_TOKEN", "hf_other")
        assert "gated" in refused(f"hf://{name}")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert fetch(f"hf://{name}")[1]["commit"] == model.branches["main"]

    def test_private(self, hub, name, model, monkeypatch) -> None:
        model.private, model.token = True, TOKEN
        assert "or a private one" in refused(f"hf://{name}")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert fetch(f"hf://{name}")[1]["commit"] == model.branches["main"]

    def test_pickle_weights_only(self, hub, name) -> None:
        files = {"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"x"}
        hub.repository(name).commit(files)
        assert "pickle weights only" in refused(f"hf://{name}")
        assert hub.downloads() == []

    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "a BertForMaskedLM, not a causal"),
            ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "a t5 model, not a causal"),
        ],
    )
    def test_no_causal_language_model(self, hub, name, toy_model, config, expected) -> None:
        hub.repository(name).commit({**files_of(toy_model), "config.json": json.dumps(config).encode()})
        assert f"{expected} language model" in refused(f"hf://{name}")
        assert "model.safetensors" not in hub.downloads()

    def test_no_room(self, hub, name, model) -> None:
        model.sizes["model.safetensors"] = 10**16
        message = refused(f"hf://{name}")
        assert "not enough disk: 2000000" in message, "into the cache, and into models/base as well"
        assert "GB are free; free some, or name another place for the cache" in message
        assert hub.downloads() == []

    def test_a_busy_hub_is_asked_again(self, hub, name, model, capfd) -> None:
        hub.faults[f"{name}/revision/main"] = [status(429, Retry_After="1"), status(503)]
        hub.faults[f"api/models/{name}"] = [status(429, Retry_After="1"), status(500)]
        assert fetch(f"hf://{name}")[1]["commit"] == model.branches["main"]
        assert "the hub answers 429; trying again in 1 s" in capfd.readouterr().out

    def test_a_limit_that_lasts(self, hub, name, model) -> None:
        hub.faults[f"api/models/{name}"] = [status(429, Retry_After="3600")]
        assert "the hub limits requests (429): try again in 3600 s, or log in" in refused(f"hf://{name}")

    def test_a_connection_that_is_cut_goes_on_where_it_broke_off(self, hub, name, model, toy_model) -> None:
        large = random.Random(0).randbytes(25_000_000)  # the client writes blocks of 10 MiB
        model.commit({**files_of(toy_model), "model.safetensors": large})
        hub.faults["model.safetensors"] = [cut(15_000_000)]
        assert fetch(f"hf://{name}")[0]["model.safetensors"] == large
        ranges = [asked for _, path, asked in hub.requests if path.endswith("model.safetensors") and asked]
        assert ranges == ["bytes=10485760-"]

    def test_a_shorter_file(self, hub, name, model, toy_model) -> None:
        hub.faults["model.safetensors"] = [shorter] * 9
        assert "run the same command again" in refused(f"hf://{name}")
        hub.faults.clear()
        assert fetch(f"hf://{name}")[0]["model.safetensors"] == (toy_model / "model.safetensors").read_bytes()

    @pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
    def test_wrong_bytes(self, hub, name, model, toy_model, file) -> None:
        hub.faults[file] = [wrong_bytes]
        assert f"{file} has other bytes than the hub lists; it was removed from the cache" in refused(f"hf://{name}")
        assert fetch(f"hf://{name}")[0][file] == (toy_model / file).read_bytes(), "the next run gets it"


def stage(project: Path, name: str, **environment: str) -> subprocess.CompletedProcess:
    """A stage in a process of its own: the client reads some settings when it is imported."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("HF_HUB_OFFLINE")}
    return subprocess.run(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=project,
        env={**plain, "PYTHONPATH": OURS, **environment},
        capture_output=True,
        text=True,
    )


def test_a_home_that_cannot_be_written_to(hub, name, model, project, monkeypatch) -> None:
    """Nobody, root neither, can make a folder in /proc; as in a container with a read-only home."""
    from tests.toy import write_params

    for variable in ("HF_HOME", "XDG_CACHE_HOME", "DVC_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    write_params(project, **{"model.source": f"hf://{name}"})
    out = stage(project, "fetch_model", HOME="/proc")
    assert out.returncode == 0, out.stderr
    assert (project / ".user_cache/huggingface/hub").is_dir()


def test_offline_and_out_of_reach(hub, name, model, project, tmp_path) -> None:
    from tests.toy import write_params

    write_params(project, **{"model.source": f"hf://{name}"})
    out = stage(project, "fetch_model", HF_HUB_OFFLINE="1")
    assert out.returncode == 1
    assert "offline (HF_HUB_OFFLINE), and it is not in the cache" in out.stderr
    out = stage(project, "fetch_model", HF_ENDPOINT="http://127.0.0.1:9")
    assert out.returncode == 1
    assert "can't reach the hub at http://127.0.0.1:9" in out.stderr
    assert "HF_ENDPOINT" in out.stderr
    assert len(out.stderr.splitlines()) == 1
    assert stage(project, "fetch_model").returncode == 0
    record = (project / "models/base/source.json").read_bytes()
    for settings in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        out = stage(project, "fetch_model", **settings)
        assert out.returncode == 0, out.stderr
        assert "taken from the cache" in out.stdout
        assert (project / "models/base/source.json").read_bytes() == record


class TestBareNames:
    """OWNER/NAME without a scheme."""

    def test_the_hubs(self, hub, name, model) -> None:
        assert fetch(name) == fetch(f"hf://{name}")
        assert fetch(name, "main")[1]["source"] == f"hf://{name}"
        assert fetch(f"{name}#model.safetensors", checked=False)[1]["source"] == f"hf://{name}#model.safetensors"

    def test_what_is_wrong_there_names_both(self, hub, name) -> None:
        message = refused(name)
        assert message.startswith(f"model.source: '{name}' (no path here, so hf://{name}): no such model repository")

    def test_a_checksum_is_its_by_either_name(self, hub, name, model) -> None:
        for given, pinned in ((name, f"hf://{name}"), (f"hf://{name}", name)):
            checked = model_params(given, sha256={pinned: "0" * 64})
            with (
                pytest.raises(InputError, match=r"model.sha256: the bytes of"),
                fetched(checked, "model", select_model_files),
            ):
                pass

    def test_where_the_owner_is_a_folder_it_is_a_path(self, hub, name, model, tmp_path, monkeypatch) -> None:
        """In an experiment's own workspace too, where the folder may be in the main repository alone."""
        (tmp_path / "aside").mkdir()
        (tmp_path / "owner").mkdir()
        wanted = rf"no such file or folder \(relative paths start at .* root; on the Hugging Face hub: hf://{name}\)"
        for folder, root in ((tmp_path, "."), (tmp_path / "aside", str(tmp_path))):
            monkeypatch.chdir(folder)
            monkeypatch.setenv("DVC_ROOT", root)
            hub.requests.clear()
            assert re.search(wanted, refused(name))
            assert hub.requests == []
