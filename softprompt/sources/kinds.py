"""What a file really is: what stands in the place of data is named, before anything reads it as data."""

from pathlib import Path

from softprompt.runtime.errors import InputError

LFS = b"version https://git-lfs.github.com/spec/"
COMPRESSED = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
PAGES = (b"<!", b"<html", b"<head", b"<body", b"<?xml", b"<error>")
ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06")  # of zip, as workbooks are too
BEGINNING = 1024  # bytes that tell


def check_kind(file: Path) -> None:
    """Refuse what is not the file that its name says.

    Raises:
        InputError: if it is a Git LFS pointer, a web page, or compressed without a word of it in its name.
    """
    with file.open("rb") as opened:
        beginning = opened.read(BEGINNING)
    if beginning.startswith(LFS):
        raise InputError(f"{file.name} is a Git LFS pointer, not the file itself; in its repository, run git lfs pull")
    if beginning.startswith((b"/annex/objects/", b".git/annex/objects/")):
        raise InputError(
            f"{file.name} is a git-annex pointer, not the file itself; run in its repository: git annex get"
        )
    if beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(PAGES):
        raise InputError(
            f"{file.name} is a web page, perhaps a server's error or login page, not a data file; open its address "
            "in a browser, and name the file itself"
        )
    if beginning.startswith(ARCHIVES):
        raise InputError(f"{file.name} is a zip archive or a workbook; unpack it, or save its table as CSV")
    for magic, extension in COMPRESSED.items():
        if beginning.startswith(magic) and file.suffix.lower() != extension:
            raise InputError(f"{file.name} is compressed ({extension[1:]}); name it {file.name}{extension}")
