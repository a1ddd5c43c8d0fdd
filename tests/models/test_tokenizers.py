"""Tokenizers: words and pieces on vocabularies of a few tokens; the real ones are in test_e2e."""

from __future__ import annotations

import pytest

from attnprobe.models import byte_bpe, wordpiece
from attnprobe.models.byte_bpe import ByteBpe, byte_characters
from attnprobe.models.wordpiece import WordPiece

MERGES = ["l o", "Ġ lo", "o w", "lo w", "Ã ©"]
TOKENS = ["<|end|>", *byte_characters(), *(merge.replace(" ", "") for merge in MERGES)]


def test_bytes_are_merged_in_the_order_of_the_ranks() -> None:
    bpe = ByteBpe(TOKENS, MERGES)
    spelled = [TOKENS[number] for number in bpe.encode("low low 12é")]
    assert spelled == ["low", "Ġlo", "w", "Ġ", "1", "2", "Ã©"]


@pytest.mark.parametrize(
    "text", ["", " ", "any  text — été\n", "\tx\r\n", "日本 ½ ²", "\0\x7f\xad"]
)
def test_what_is_encoded_is_decoded(text: str) -> None:
    bpe = ByteBpe(TOKENS, MERGES)
    assert bpe.decode(bpe.encode(text)) == text


def test_a_mark_is_one_token_wherever_it_stands() -> None:
    bpe = ByteBpe(TOKENS, MERGES, ["<|end|>"])
    assert bpe.encode("<|end|>lo<|end|>") == [0, bpe.ids["lo"], 0]
    assert bpe.decode([0, bpe.ids["lo"], 0]) == "<|end|>lo<|end|>"
    assert 0 not in ByteBpe(TOKENS, MERGES).encode("<|end|>")  # plain text without marks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's  so", ["it", "'s", " ", " so"]),
        ("a  17 b", ["a", "  ", "1", "7", " b"]),  # a digit ends the piece of blanks before it
        ("x² ½b", ["x", "²", " ", "½", "b"]),  # numbers of every kind
        ("he said--\n\nno", ["he", " said", "--", "\n", "\n", "no"]),
        ("don't 'dog", ["don", "'t", " '", "dog"]),
        ("snake_case", ["snake", "_", "case"]),
        ("end   ", ["end", "   "]),
    ],
)
def test_text_is_split_into_words(text: str, words: list[str]) -> None:
    assert list(byte_bpe.words(text)) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Ferry, leaves!", ["the", "ferry", ",", "leaves", "!"]),
        ("Été naïve", ["ete", "naive"]),
        ("a\tb\u00a0c\u200bd\0e", ["a", "b", "cde"]),
        ("漢字x", ["漢", "字", "x"]),
        ("co-op $5", ["co", "-", "op", "$", "5"]),
        ("", []),
    ],
)
def test_text_is_split_into_normalised_words(text: str, words: list[str]) -> None:
    assert list(wordpiece.words(text)) == words


def test_a_word_becomes_its_longest_pieces_or_is_unknown_as_a_whole() -> None:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "unaff", "##aff", "##able", "##a"]
    encoder = WordPiece(tokens)

    def spelled(text: str) -> list[str]:
        return [tokens[number] for number in encoder.encode(text, limit=20)]

    assert spelled("unaffable") == ["[CLS]", "unaff", "##able", "[SEP]"]
    assert spelled("unaffx una") == ["[CLS]", "[UNK]", "un", "##a", "[SEP]"]
    assert spelled("un" + "a" * 99) == ["[CLS]", "[UNK]", "[SEP]"]  # too long to be looked at
    assert encoder.encode("un un un un", limit=4) == [2, 4, 4, 3]
