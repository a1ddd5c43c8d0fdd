"""Byte-level byte-pair encoding with the vocabulary and merges that a GGUF file carries.

Text is split into words, each word's UTF-8 bytes are written as 256 printable characters, and the
pair of neighbours with the lowest merge rank is joined until no ranked pair is left. Marks such as
``<|im_end|>`` are tokens of their own wherever they stand in the text.

Source: the GPT-2 byte-to-character map and word pattern, over the pieces between digits, and every
digit alone: what the file's ``tokenizer.ggml.pre`` ("smollm") says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

_CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)")
# Over one letter per character: L letter, N number, S white space but the blank, O anything else.
_PIECE = re.compile(r"N|[^N]+")
_RUN = re.compile(r"N| ?L+| ?O+|[ S]+(?![LO])|[ S]+")


def byte_characters() -> list[str]:
    """Return for each byte the printable character that stands for it in the vocabulary."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in kept else next(spare)) for byte in range(256)]


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    if character == " ":
        return " "
    category = unicodedata.category(character)[0]
    if category in "LN":
        return category
    return "S" if character.isspace() and character not in "\x1c\x1d\x1e\x1f" else "O"


def words(text: str) -> Iterator[str]:
    """Yield the words of ``text``, a blank with the word that it leads; nothing is left out.

    A digit is parted from what is around it first: blanks before it stand at the end of a piece.
    """
    kinds = "".join(map(_kind, text))
    for piece in _PIECE.finditer(kinds):
        at, end = piece.span()
        while at < end:
            found = _CONTRACTION.match(text, at, end) or _RUN.match(kinds, at, end)
            assert found is not None  # every kind is in the pattern
            yield text[at : found.end()]
            at = found.end()


class ByteBpe:
    """Encoder and decoder.

    ``tokens[i]`` spells token i, ``merges`` are "left right" in order, and ``marks`` are the tokens
    that stand for themselves.
    """

    def __init__(
        self, tokens: Sequence[str], merges: Sequence[str], marks: Collection[str] = ()
    ) -> None:
        self.tokens = list(tokens)
        self.marks = frozenset(marks)
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self._to_character = byte_characters()
        self._to_byte = {character: byte for byte, character in enumerate(self._to_character)}
        longest_first = sorted(self.marks, key=len, reverse=True)
        self._mark = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def encode(self, text: str) -> list[int]:
        """Return the token numbers of ``text``; no token is put in front or behind."""
        numbers: list[int] = []
        at = 0
        for mark in self._mark.finditer(text):
            numbers += [*self._plain(text[at : mark.start()]), self.ids[mark.group()]]
            at = mark.end()
        return [*numbers, *self._plain(text[at:])]

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of ``numbers``."""
        raw = b"".join(self._spelled(self.tokens[number]) for number in numbers)
        return raw.decode("utf-8", "replace")

    def _spelled(self, token: str) -> bytes:
        if token in self.marks:
            return token.encode("utf-8")
        return bytes(self._to_byte[character] for character in token)

    def _plain(self, text: str) -> Iterator[int]:
        for word in words(text):
            spelled = [self._to_character[byte] for byte in word.encode("utf-8")]
            yield from (self.ids[piece] for piece in self._merge(spelled))

    def _merge(self, pieces: list[str]) -> list[str]:
        unranked = len(self.ranks)
        while len(pieces) > 1:
            ranks = [self.ranks.get(pair, unranked) for pair in pairwise(pieces)]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == unranked:
                break
            pieces = [*pieces[:best], pieces[best] + pieces[best + 1], *pieces[best + 2 :]]
        return pieces
