"""ChatterBot's corpus: YAML with `conversations`, lists of utterances; each adjacent pair is question and answer."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import yaml

from stages.params.data import Columns
from stages.rows import make_row
from stages.workspace.errors import InputError


def read(path: Path, columns: Columns) -> Iterator[dict]:
    """Yield a row for each adjacent pair of utterances; the format has no columns to map."""
    try:
        # The base loader leaves every scalar the text that it is: "Yes" and "42" are answers, not a truth and a number.
        with path.open(encoding="utf-8-sig") as file:
            document = yaml.load(file, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 text (byte {error.start})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path.name}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    conversations = document.get("conversations") if isinstance(document, dict) else None
    if not isinstance(conversations, list):
        raise InputError(f"{path.name}: no list `conversations`: not a file of ChatterBot's corpus")
    for number, conversation in enumerate(conversations, start=1):
        if isinstance(conversation, str):
            # One utterance that a missing dash made a text: trivia.yml of chatterbot-corpus 1.3.3 has one.
            print(f"warning: {path.name}: conversation {number} is a single text and has no answer", file=sys.stderr)
            continue
        if not isinstance(conversation, list) or not all(isinstance(turn, str) for turn in conversation):
            raise InputError(f"{path.name}: conversation {number} is not a list of texts")
        for question, answer in pairwise(conversation):
            yield make_row(question, "", answer, source=path.stem)
