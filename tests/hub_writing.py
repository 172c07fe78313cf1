"""What the hub on loopback answers to those that write: repositories, branches, large files, commits."""

import base64
import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.hub import Handler, Repository

LFS = (".safetensors", ".bin", ".parquet", ".gguf", ".gz")  # what git-lfs keeps; the rest is git's own
FIRST = {".gitattributes": b"*.safetensors filter=lfs\n"}  # which the hub itself puts into a new repository


def oid(file: str, content: bytes) -> str:
    """What the hub calls a content: git-lfs's hash of it, or git's, which is over a header and the bytes."""
    if file.endswith(LFS):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def respond(handler: "Handler", path: str, body: bytes) -> None:
    """Answer a POST or a PUT."""
    hub = handler.server
    if path.startswith("/lfs/"):  # as the storage behind the hub, which asks for no token
        content, name = body, path.removeprefix("/lfs/")
        handler.answer(200 if hashlib.sha256(content).hexdigest() == name else 400)
        hub.objects[name] = content
    elif path == "/api/validate-yaml":
        send(handler, {"errors": [], "warnings": []})
    elif path == "/api/repos/create":
        create(handler, json.loads(body))
    elif path.endswith(".git/info/lfs/objects/batch"):
        objects = [
            {**entry, "actions": {"upload": {"href": f"{hub.url}/lfs/{entry['oid']}"}}}
            for entry in json.loads(body)["objects"]
        ]
        send(handler, {"transfer": "basic", "objects": objects})
    else:
        kind, owner, name, action, revision = path.removeprefix("/api/").split("/", 4)
        repository = handler.found(kind, f"{owner}/{name}")
        if repository is None or not may_write(handler, owner):
            return
        if action == "branch":
            code = 409 if revision in repository.branches else 201
            repository.branches.setdefault(revision, repository.branches["main"])
            handler.answer(code)
        elif revision not in repository.branches:
            handler.answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        elif action == "preupload":
            preupload(handler, repository.commits[repository.branches[revision]], json.loads(body)["files"])
        elif action == "commit" and parent_of(body) not in (None, repository.branches[revision]):
            handler.answer(412)
        elif action == "commit":
            made = commit(handler, repository, revision, body)
            send(handler, {"commitOid": made, "commitUrl": f"{hub.url}/{owner}/{name}/commit/{made}", "success": True})
        else:
            handler.answer(404)


def may_write(handler: "Handler", owner: str) -> bool:
    """Whether the request's token may; else it is answered."""
    given = handler.headers.get("Authorization")
    if given == f"Bearer {handler.server.writers.get(owner)}":
        return True
    handler.answer(403 if given else 401)
    return False


def create(handler: "Handler", asked: dict) -> None:
    owner, kind = asked["organization"], f"{asked.get('type', 'model')}s"
    name = f"{owner}/{asked['name']}"
    if not may_write(handler, owner):
        return
    is_new = (kind, name) not in handler.server.repositories
    if is_new:
        is_private = asked.get("visibility") == "private"
        repository = handler.server.repository(name, kind, private=is_private)
        repository.token = handler.server.writers[owner] if is_private else None
        repository.commit(FIRST)
    send(handler, {"url": f"{handler.server.url}/{name}"}, 200 if is_new else 409)


def preupload(handler: "Handler", there: dict[str, bytes], asked: list[dict]) -> None:
    """Which files go to git-lfs, and which of them are there already."""
    files = [
        {
            "path": file["path"],
            "uploadMode": "lfs" if file["path"].endswith(LFS) else "regular",
            "shouldIgnore": False,
            **({"oid": oid(file["path"], there[file["path"]])} if file["path"] in there else {}),
        }
        for file in asked
    ]
    send(handler, {"files": files})


def parent_of(body: bytes) -> str | None:
    """The commit that the branch has to be at, for one that is sent."""
    return json.loads(body.splitlines()[0])["value"].get("parentCommit")


def commit(handler: "Handler", repository: "Repository", branch: str, body: bytes) -> str:
    """Make a commit of its operations, a line of JSON each; returns its name."""
    files = dict(repository.commits[repository.branches[branch]])
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            files[value["path"]] = handler.server.objects[value["oid"]]
        elif line["key"] == "deletedFile":
            del files[value["path"]]
        else:
            handler.server.messages.append(value["summary"])
    return repository.commit(files, branch)


def send(handler: "Handler", value: dict, code: int = 200) -> None:
    handler.answer(code, json.dumps(value).encode())
