"""Text as token ids, piece by piece: what a row says is text, also where it spells a special token."""

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from softprompt.data.templates.rendering import RowError
from softprompt.data.tokens import beginning_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Encoder:
    """A tokenizer for pieces of conversations.

    Attributes:
        tokenizer: the model's.
        beginning: what it puts in front of every text, often a BOS.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer, self.beginning = tokenizer, beginning_ids(tokenizer)
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        longest_first = sorted(special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")  # (?!) is found nowhere
        self._ends_special = re.compile(rf"(?:{self._special.pattern})\Z")
        self._marks = re.compile(f"[{''.join(set(_marked('a', re.compile('a'))) - {'a'})}]")
        self._is_writable = cache(self._can_write)
        self._newline, alone, after = self._plain(["\n", "a", "\na"])
        self._adds_blank = after != self._newline + alone  # in front of a text, as SentencePiece's do

    def marked(self, text: str) -> str:
        """`text` with the special tokens that it spells marked, so that `ids` writes them as text.

        Raises:
            RowError: if this tokenizer can't write one as text.
        """
        if self._marks.search(text):
            raise RowError("it has a character of private use with which transformers marks special tokens")
        spelt = sorted(set(self._special.findall(text)))
        for token in spelt:
            if not self._is_writable(token):
                raise RowError(f"it spells the special token {token}, which this tokenizer can't write as text")
        return _marked(text, self._special) if spelt else text

    def ids(self, conversations: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Token ids of each piece of each conversation, tokenized apart; the pieces are of `marked` texts."""
        texts = [text for pieces in conversations for text in pieces]
        goes_on = [self._goes_on(pieces, place) for pieces in conversations for place in range(len(pieces))]
        # After a line break no blank is added; without the line break's tokens, the piece's own are left.
        encoded = self._plain([f"\n{text}" if on else text for text, on in zip(texts, goes_on, strict=True)])
        line = len(self._newline)
        own = iter(
            ids[line:] if on and ids[:line] == self._newline else ids for ids, on in zip(encoded, goes_on, strict=True)
        )
        return [[next(own) for _ in pieces] for pieces in conversations]

    def _goes_on(self, pieces: Sequence[str], place: int) -> bool:
        """Whether the tokenizer has to be told that a piece begins no text; after a special token one begins."""
        return self._adds_blank and place > 0 and not self._ends_special.search(pieces[place - 1])

    def begun(self, ids: list[int]) -> list[int]:
        """`ids` with the tokenizer's beginning, which many a template writes itself."""
        return ids if ids[: len(self.beginning)] == self.beginning else self.beginning + ids

    def _plain(self, texts: Sequence[str]) -> list[list[int]]:
        """What the texts spell, and no token more."""
        marked = [place for place, text in enumerate(texts) if self._marks.search(text)]
        rows = self._tokenized([*texts], as_text=False)
        for place, ids in zip(marked, self._tokenized([texts[place] for place in marked], as_text=True), strict=True):
            rows[place] = ids
        return rows

    def _tokenized(self, texts: list[str], *, as_text: bool) -> list[list[int]]:
        if not texts:
            return []
        options = {"sanitize_control_tokens": True} if as_text else {}
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, **options)
        return encoded["input_ids"]

    def _can_write(self, token: str) -> bool:
        try:
            return any(self._tokenized([_marked(token, self._special)], as_text=True))
        except ValueError:
            return False


def _marked(text: str, tokens: re.Pattern[str]) -> str:
    # transformers' own marks: `apply_chat_template(sanitize_control_tokens=True)` makes them, its tokenizers read them.
    from transformers.utils.chat_template_utils import mark_control_tokens

    return str(mark_control_tokens(text, tokens))
