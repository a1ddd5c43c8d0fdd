"""WordPiece: BERT's uncased tokenizer, from a vocabulary file with one token a line.

Text is cleaned, lower-cased and stripped of accents, split at white space and around punctuation
and CJK characters; each word becomes the longest token that it begins with, then the longest
``##`` tokens of what is left, or [UNK] as a whole.

Source: Devlin et al., BERT (arXiv 1810.04805), and its published vocabulary and normalisation.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

UNKNOWN, FIRST, LAST, PADDING = "[UNK]", "[CLS]", "[SEP]", "[PAD]"
_LONGEST_WORD = 100  # characters; a longer one is unknown

# Blocks of CJK ideographs; kana and Hangul are words like any other.
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class WordPiece:
    """Encoder over ``tokens``, where ``tokens[i]`` spells token i."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = list(tokens)
        self.ids = {token: number for number, token in enumerate(tokens)}
        self.padding = self.ids[PADDING]

    @classmethod
    def from_file(cls, path: Path) -> WordPiece:
        """Read ``vocab.txt``."""
        return cls(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))

    def encode(self, text: str, limit: int) -> list[int]:
        """Return [CLS], the tokens of ``text`` and [SEP], at most ``limit`` numbers."""
        inner = [self.ids[piece] for word in words(text) for piece in self._pieces(word)]
        return [self.ids[FIRST], *inner[: limit - 2], self.ids[LAST]]

    def _pieces(self, word: str) -> list[str]:
        if len(word) > _LONGEST_WORD:
            return [UNKNOWN]
        pieces, at = [], 0
        while at < len(word):
            prefix = "##" if at else ""
            ends = range(len(word), at, -1)
            piece = next((p for end in ends if (p := prefix + word[at:end]) in self.ids), None)
            if piece is None:
                return [UNKNOWN]
            pieces.append(piece)
            at += len(piece) - len(prefix)
        return pieces


def words(text: str) -> Iterator[str]:
    """Yield the normalised words of ``text``; a punctuation mark or ideograph is a word."""
    word = ""
    for character in _normalised(text):
        if character.isspace() or _stands_alone(character):
            if word:
                yield word
            word = ""
            if not character.isspace():
                yield character
        else:
            word += character
    if word:
        yield word


def _normalised(text: str) -> Iterator[str]:
    """Yield the characters of ``text`` lower-cased, with no accents and no control characters."""
    cleaned = "".join(" " if c.isspace() else c for c in text if not _is_dropped(c))
    for character in unicodedata.normalize("NFD", cleaned):
        if unicodedata.category(character) != "Mn":
            yield from character.lower()


def _is_dropped(character: str) -> bool:
    if character in "\t\n\r":
        return False
    return character in "\0�" or unicodedata.category(character)[0] == "C"


def _stands_alone(character: str) -> bool:
    number = ord(character)
    if any(first <= number <= last for first, last in _CJK):
        return True
    ascii_marks = character.isascii() and character.isprintable() and not character.isalnum()
    return ascii_marks or unicodedata.category(character)[0] == "P"
