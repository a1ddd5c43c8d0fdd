"""Byte-level byte-pair encoding with the vocabulary and merges that a GGUF file carries.

Text is split into words, each word's UTF-8 bytes are written as 256 printable characters, and the
pair of neighbours with the lowest merge rank is joined until no ranked pair is left.

Source: the GPT-2 byte-to-character map and word pattern; digits stand alone, as the file's
``tokenizer.ggml.pre`` ("smollm") says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

_LETTER = r"[^\W\d_]"
_DIGIT = r"\d"
_OTHER = rf"(?:(?!{_LETTER})(?!{_DIGIT})\S)"
_WORD = re.compile(rf"{_DIGIT}|'s|'t|'re|'ve|'m|'ll|'d| ?{_LETTER}+| ?{_OTHER}+|\s+(?!\S)|\s+")


def byte_characters() -> list[str]:
    """Return for each byte the printable character that stands for it in the vocabulary."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in kept else next(spare)) for byte in range(256)]


class ByteBpe:
    """Encoder and decoder. ``tokens[i]`` spells token i; ``merges`` are "left right", in order."""

    def __init__(self, tokens: Sequence[str], merges: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self._to_character = byte_characters()
        self._to_byte = {character: byte for byte, character in enumerate(self._to_character)}

    def encode(self, text: str) -> list[int]:
        """Return the token numbers of ``text``; no token is put in front or behind."""
        numbers: list[int] = []
        for word in _WORD.findall(text):
            spelled = [self._to_character[byte] for byte in word.encode("utf-8")]
            numbers.extend(self.ids[piece] for piece in self._merge(spelled))
        return numbers

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the text of ``numbers``."""
        spelled = "".join(self.tokens[number] for number in numbers)
        return bytes(self._to_byte[c] for c in spelled).decode("utf-8", "replace")

    def _merge(self, pieces: list[str]) -> list[str]:
        unranked = len(self.ranks)
        while len(pieces) > 1:
            ranks = [self.ranks.get(pair, unranked) for pair in pairwise(pieces)]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == unranked:
                break
            pieces = [*pieces[:best], pieces[best] + pieces[best + 1], *pieces[best + 2 :]]
        return pieces
