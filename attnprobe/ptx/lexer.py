"""PTX text to tokens. Comments vanish; directives that end with their line become one token."""

from __future__ import annotations

import re
from dataclasses import dataclass

from attnprobe.errors import PtxSyntaxError


@dataclass(frozen=True, slots=True)
class Token:
    """One token: ``kind`` is "word", "directive", "line" (a whole-line directive), "int", "float", "string" or the
    punctuation itself."""

    kind: str
    text: str
    line: int


# Words carry their modifiers: fma.rn.f32, %tid.x, cp.async.cg.shared.global.L2::128B.
_WORD = r"[A-Za-z_$%][\w$%]*(?:(?:\.|::)[\w$]+)*"
_TOKEN = re.compile(
    rf"""
      (?P<space>[ \t\r]+)
    | (?P<newline>\n)
    | (?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<line>\.(?:version|target|address_size|file|loc)\b[^\n]*)
    | (?P<float>0[fF][0-9a-fA-F]{{8}}|0[dD][0-9a-fA-F]{{16}}|\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    | (?P<int>0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+U?)
    | (?P<directive>\.[A-Za-z_][\w$]*(?:::[\w$]+)*)
    | (?P<word>{_WORD})
    | (?P<string>"[^"\n]*")
    | (?P<punct>[{{}}()\[\]<>,;:=@!|+\-*/&~^?])
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(text: str) -> list[Token]:
    """Return the tokens of ``text``.

    Raises
    ------
    PtxSyntaxError
        At a character that begins no token.
    """
    result: list[Token] = []
    position, line = 0, 1
    match_at = _TOKEN.match
    while position < len(text):
        match = match_at(text, position)
        if match is None:
            raise PtxSyntaxError(f"PTX line {line}: cannot read {text[position : position + 20]!r}")
        kind = match.lastgroup or ""
        value = match[0]
        position = match.end()
        if kind == "newline":
            line += 1
        elif kind == "comment":
            line += value.count("\n")
        elif kind == "line":
            result.append(Token(kind, value.split("//")[0].strip(), line))
        elif kind == "punct":
            result.append(Token(value, value, line))
        elif kind != "space":
            result.append(Token(kind, value, line))
    return result
