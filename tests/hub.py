"""A hub on loopback that speaks the HTTP API of the Hugging Face hub, as far as its clients read and write."""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests import hub_writing
from tests.hub_writing import LFS

Answer = Callable[["Handler"], None]


@dataclass
class Repository:
    """Files by commit; commits by branch."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    token: str | None = None  # that may read a gated repository
    private: bool = False
    sizes: dict[str, int] = field(default_factory=dict)  # that the listing claims
    hashes: bool = (
        True  # whether its description has them and sizes, as that of many mirrors hasn't; the list of its files has
    )

    def commit(self, files: dict[str, bytes], branch: str = "main", name: str = "") -> str:
        """A new commit of all of `files` at the head of `branch`; returns its name."""
        digest = hashlib.sha1(branch.encode())
        for file, content in sorted(files.items()):
            digest.update(file.encode() + content)
        name = name or digest.hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name


class Hub(ThreadingHTTPServer):
    """Serves `repositories`; `faults` are answered first, one for each request of a path that ends so."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: dict[str, list[Answer]] = defaultdict(list)
        self.requests: list[tuple[str, str, str]] = []  # method, path, range
        self.writers: dict[str, str] = {}  # owner -> the token that may write
        self.objects: dict[str, bytes] = {}  # of git-lfs, by hash
        self.messages: list[str] = []  # of the commits that were sent
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def repository(self, name: str, kind: str = "models", **settings: object) -> Repository:
        return self.repositories.setdefault((kind, name), Repository(**settings))

    def downloads(self) -> list[str]:
        """Names of the files that were asked for."""
        return [path.rpartition("/")[2] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path]


def status(code: int, **headers: str) -> Answer:
    """Answer with a status and nothing else; `_` in header names stands for "-"."""
    return lambda handler: handler.answer(
        code, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def cut(after: int) -> Answer:
    """Begin the file, and hang up after so many bytes."""
    return lambda handler: handler.send_file(cut=after)


def wrong_bytes(handler: "Handler") -> None:
    """A file of the right size and other bytes."""
    handler.send_file(change=lambda content: bytes(255 - byte for byte in content))


def shorter(handler: "Handler") -> None:
    """A file that lacks its last byte, and says so."""
    handler.send_file(change=lambda content: content[:-1])


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def do_POST(self) -> None:
        self.respond()

    def do_PUT(self) -> None:
        self.respond()

    def respond(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        for ending, answers in self.server.faults.items():
            if answers and path.endswith(ending) and (self.command != "HEAD" or "/api/" in path):
                answers.pop(0)(self)
                return
        if self.command in ("POST", "PUT"):
            hub_writing.respond(self, path, body)
        elif "/resolve/" in path:
            self.send_file()
        elif path.startswith("/api/") and "/xet-" not in path:  # it has not the hub's newer storage
            self.send_listing(path)
        else:
            self.answer(404)

    def found(self, kind: str, name: str) -> Repository | None:
        repository = self.server.repositories.get((kind, name))
        if repository is None or (repository.private and not self.allowed(repository)):
            self.answer(401, headers={"X-Error-Code": "RepoNotFound"})
            return None
        return repository

    def allowed(self, repository: Repository) -> bool:
        return self.headers.get("Authorization") == f"Bearer {repository.token}"

    def files(self, repository: Repository, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self.answer(404, headers={"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, repository.commits[commit]

    def send_listing(self, path: str) -> None:
        """/api/{kind}/{owner}/{name}[/revision/{revision}|/tree/{revision}[/{folder}]]."""
        kind, owner, name, *rest = path.removeprefix("/api/").split("/", 5)[:5] if path.count("/") > 3 else ("", "", "")
        revision = path.split(f"/{rest[0]}/", 1)[1] if rest else "main"
        revision, _, below = revision.partition("/") if rest[:1] == ["tree"] else (revision, "", "")
        repository = self.found(kind, f"{owner}/{name}")
        listed = repository and self.files(repository, revision)
        if not listed:
            return
        commit, files = listed
        files = {file: content for file, content in files.items() if file.startswith(f"{below}/" if below else "")}
        entries = []
        for file, content in files.items():
            size = repository.sizes.get(file, len(content))
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
            entries.append((file, size, blob, lfs if file.endswith(LFS) else None))
        if rest and rest[0] == "tree":
            tree = [
                {
                    "type": "file",
                    "path": file,
                    "size": size,
                    "oid": blob,
                    **({"lfs": {"oid": lfs["sha256"], "size": size, "pointerSize": 134}} if lfs else {}),
                }
                for file, size, blob, lfs in entries
            ]
            self.answer(200, json.dumps(tree).encode())
            return
        siblings = [
            {"rfilename": file, "size": size, "blobId": blob, **({"lfs": lfs} if lfs else {})}
            if repository.hashes
            else {"rfilename": file}
            for file, size, blob, lfs in entries
        ]
        info = {"id": f"{owner}/{name}", "sha": commit, "private": repository.private, "gated": bool(repository.token)}
        self.answer(200, json.dumps({**info, "tags": [], "downloads": 0, "siblings": siblings}).encode())

    def send_file(self, cut: int | None = None, change: Callable[[bytes], bytes] | None = None) -> None:
        """[/datasets]/{owner}/{name}/resolve/{revision}/{file}, or the rest of it where a range is asked for."""
        path = unquote(urlsplit(self.path).path).lstrip("/")
        kind = "datasets" if path.startswith("datasets/") else "models"
        name, _, rest = path.removeprefix("datasets/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        repository = self.found(kind, name)
        listed = repository and self.files(repository, revision)
        if not listed:
            return
        if repository.token and not self.allowed(repository):
            code = 403 if "Authorization" in self.headers else 401
            self.answer(code, headers={"X-Error-Code": "GatedRepo"})
            return
        commit, files = listed
        if file not in files:
            self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
            return
        content = files[file]
        etag = hashlib.sha256(content).hexdigest() if file.endswith(LFS) else hashlib.sha1(content).hexdigest()
        content = change(content) if change else content
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if "Range" not in self.headers:
            self.answer(200, content, headers=headers, cut=cut)
            return
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1, len(content)) if last else len(content)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        self.answer(206, content[start:stop], headers=headers, cut=cut)

    def answer(
        self, code: int, body: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
