"""`s3://BUCKET/PATH` and `https://HOST/PATH`: data files through fsspec; on S3 a folder or a glob will do too.

Credentials and endpoints are those of fsspec's file systems, for S3 the usual AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_PROFILE and AWS_ENDPOINT_URL.
"""

import shutil
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import disk_is_full
from softprompt.runtime.progress import tqdm
from softprompt.sources.repository import HEADER
from softprompt.sources.request import Files, Request, fixed_part, relative_target

HINT = "check the address, the network and credentials"


def fetch(request: Request) -> Files:
    """Download what the address names into the request's folder.

    Raises:
        InputError: if there is no such object, access is refused, the host can't be reached, or there is no room.
    """
    if request.kind == "model":
        raise InputError(f"{request.scheme}:// is for data; a model comes from a hub, a package or a path")
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(request.source)
        objects, whole = _objects(system, path, request)
        chosen = request.select(sorted(objects.values()))
        if whole and request.wanted is not None:
            described = _download(
                system, {name: file for name, file in objects.items() if file.as_posix() == HEADER}, request
            )
            names = [file.as_posix() for file in chosen]
            chosen = [Path(name) for name in request.wanted(names, next(iter(described), None), None)[0]]
        files = _download(system, {name: file for name, file in objects.items() if file in chosen}, request)
    except InputError:
        raise
    except FileNotFoundError as error:
        # fsspec says this of every failed request to a web server.
        if error.__cause__ is not None and getattr(error.__cause__, "status", None) != 404:
            raise InputError(f"can't be downloaded: {_line(error.__cause__)}; {HINT}") from None
        raise InputError("no such object; check host or bucket, and path") from None
    except PermissionError as error:
        raise InputError(
            f"access refused ({_line(error)}); for S3 set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        ) from None
    except Exception as error:  # aiohttp's and botocore's own have no common ancestor
        if disk_is_full(error):
            raise
        raise InputError(f"can't be downloaded: {_line(error)}; {HINT}") from None
    return Files(files, request.folder, whole=whole)


def _objects(system: Any, path: str, request: Request) -> tuple[dict[str, Path], bool]:
    """Full name -> path below the request's folder, of one object or several, and whether they are a whole folder."""
    whole = False
    if request.scheme in ("http", "https"):
        files = {path: Path(PurePosixPath(urlsplit(path).path).name)}
    elif any(character in path for character in "*?["):
        files = {name: Path(relative_target(name, fixed_part(path))) for name in system.glob(path)}
    elif system.isfile(path):
        files = {path: Path(relative_target(path, fixed_part(path)))}
    elif system.exists(path):
        files = {name: Path(relative_target(name, PurePosixPath(path))) for name in system.find(path)}
        whole = True
    else:
        files = {}
    if not files:
        raise FileNotFoundError(path)
    return dict(sorted(files.items())), whole


def _download(system: Any, objects: dict[str, Path], request: Request) -> list[Path]:
    """Where the objects lie, once they are there and whole."""
    from fsspec.callbacks import TqdmCallback

    sizes = {name: system.info(name).get("size") or 0 for name in objects}
    free = shutil.disk_usage(request.folder).free
    if sum(sizes.values()) > free:
        raise InputError(
            f"not enough disk: {sum(sizes.values()) / 1e9:.2f} GB are needed in {request.folder.parent}, "
            f"{free / 1e9:.2f} GB are free; free some, or name another place in TMPDIR"
        )
    files = []
    for name, file in objects.items():
        (request.folder / file).parent.mkdir(parents=True, exist_ok=True)
        bar = TqdmCallback(tqdm_kwargs={"desc": file.name, "unit": "B", "unit_scale": True}, tqdm_cls=tqdm)
        system.get_file(name, str(request.folder / file), callback=bar)
        size = (request.folder / file).stat().st_size
        if sizes[name] and size != sizes[name]:
            raise InputError(f"{file} is incomplete: {size} of {sizes[name]} bytes; run the same command again")
        files.append(request.folder / file)
    return files


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
