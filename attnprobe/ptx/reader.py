"""A stream of tokens with what every part of the parser needs: look ahead, expect, literals."""

from __future__ import annotations

import struct

from attnprobe.errors import PtxSyntaxError
from attnprobe.ptx.ir import Imm
from attnprobe.ptx.lexer import Token


class Reader:
    """Reads tokens one after another. The last token is of kind "end" and is never passed."""

    def __init__(self, stream: list[Token]) -> None:
        self.stream = stream
        self.at = 0

    def peek(self, ahead: int = 0) -> Token:
        """Return the token ``ahead`` of the next, without taking it."""
        return (
            self.stream[min(self.at + ahead, len(self.stream) - 1)]
            if ahead
            else self.stream[self.at]
        )

    def next(self) -> Token:
        """Take the next token."""
        token = self.stream[self.at]
        if token.kind != "end":
            self.at += 1
        return token

    def accept(self, text: str) -> bool:
        """Take the next token if it is ``text``, and say whether it was."""
        if self.stream[self.at].text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        """Take the next token, which must be ``text``."""
        token = self.next()
        if token.text != text:
            raise PtxSyntaxError(f"PTX line {token.line}: expected {text!r}, found {token.text!r}")
        return token

    def fail(self, what: str) -> PtxSyntaxError:
        """Return an error at the next token."""
        token = self.peek()
        return PtxSyntaxError(f"PTX line {token.line}: {what}, found {token.text!r}")

    def skip_statement(self) -> None:
        """Pass over everything up to and including the next semicolon."""
        while self.peek().kind != "end" and self.next().text != ";":
            pass

    def integer(self) -> int:
        """Take an integer literal."""
        value = self.literal()
        if value.float_bits:
            raise self.fail("expected an integer before this")
        return value.value

    def literal(self) -> Imm:
        """Take a number."""
        negative = self.accept("-")
        token = self.next()
        if token.kind == "int":
            digits = token.text.rstrip("U")
            octal = digits.isdigit() and len(digits) > 1 and digits[0] == "0"
            value = int(digits, 8 if octal else 0)
            return Imm(-value if negative else value)
        if token.kind == "float":
            return _float_literal(token.text, negative)
        self.at -= 1
        raise self.fail("expected a number")


def _float_literal(text: str, negative: bool) -> Imm:
    if text[:2] in ("0f", "0F"):
        return Imm(int(text[2:], 16) ^ (0x80000000 if negative else 0), 32)
    if text[:2] in ("0d", "0D"):
        return Imm(int(text[2:], 16) ^ (1 << 63 if negative else 0), 64)
    value = -float(text) if negative else float(text)
    return Imm(int.from_bytes(struct.pack("<d", value), "little"), 64)
