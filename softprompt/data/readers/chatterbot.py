"""ChatterBot's corpus: YAML with `conversations`, lists of utterances; each adjacent pair is question and answer."""

import sys
from itertools import pairwise
from pathlib import Path

import yaml

from softprompt.data.readers.opening import open_text
from softprompt.data.readers.records import Options, Record, Table
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text

# The base loader leaves every scalar the text that it is: "Yes" and "42" are answers, not a truth and a number.
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
DEEPEST = 20  # the format itself has three levels


def read(path: Path, options: Options) -> Table:
    """A record of instruction and output for each adjacent pair of utterances.

    Raises:
        InputError: if it is not YAML of this kind.
    """
    with open_text(path, options.encoding) as file:
        text = file.read().replace("\r\n", "\n")
    try:
        _check_depth(path, text)
        document = yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path.name}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    conversations = document.get("conversations") if isinstance(document, dict) else None
    if not isinstance(conversations, list):
        raise InputError(f"{path.name}: no list `conversations`: not a file of ChatterBot's corpus")
    records: list[Record] = []
    for number, conversation in enumerate(conversations, start=1):
        if isinstance(conversation, str):
            # One utterance that a missing dash made a text: trivia.yml of chatterbot-corpus 1.3.3 has one.
            print(f"warning: {path.name}: conversation {number} is a single text and has no answer", file=sys.stderr)
            continue
        if not isinstance(conversation, list) or not all(map(is_text, conversation)):
            raise InputError(f"{path.name}: conversation {number} is not a list of texts")
        records += [{"instruction": question, "output": answer} for question, answer in pairwise(conversation)]
    return Table(["instruction", "output"], len(records), lambda _: iter(records))


def _check_depth(path: Path, text: str) -> None:
    """Refuse what is nested too deep: libyaml recurses, and ends the process where the stack does."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path.name}: nested more than {DEEPEST} deep: not a file of ChatterBot's corpus")
