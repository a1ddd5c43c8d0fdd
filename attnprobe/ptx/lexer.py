"""PTX text to tokens. Comments vanish; directives that end with their line become one token."""

from __future__ import annotations

import re
from typing import NamedTuple

from attnprobe.errors import PtxSyntaxError


class Token(NamedTuple):
    """One token.

    ``kind``: "word", "directive", "line" (a whole-line directive), "int", "float", "string", "end",
    or the punctuation itself.
    """

    kind: str
    text: str
    line: int


# Words carry their modifiers: fma.rn.f32, %tid.x, cp.async.cg.shared.global.L2::128B.
_WORD = r"[A-Za-z_$%][\w$%]*(?:(?:\.|::)[\w$]+)*"
_TOKEN = re.compile(
    rf"""
    [ \t\r]*+ (?:
      (?P<newline>\n)
    | (?P<word>{_WORD})
    | (?P<punct>[{{}}()\[\]<>,;:=@!|+\-*&~^?])
    | (?P<line>\.(?:version|target|address_size|file|loc)\b[^\n]*)
    | (?P<float>0[fF][0-9a-fA-F]{{8}}|0[dD][0-9a-fA-F]{{16}}
        |\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    | (?P<int>0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+U?)
    | (?P<directive>\.[A-Za-z_][\w$]*(?:::[\w$]+)*)
    | (?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<string>"[^"\n]*")
    | (?P<end>\Z)
    | (?P<bad>.)
    )
    """,
    re.VERBOSE | re.DOTALL,
)


def tokens(text: str) -> list[Token]:
    """Return the tokens of ``text``, the last of kind "end".

    Raises
    ------
    PtxSyntaxError
        At a character that begins no token.
    """
    result: list[Token] = []
    append = result.append
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "newline":
            line += 1
            continue
        value = match[kind]  # type: ignore[index]
        if kind == "word" or kind == "int" or kind == "directive":
            append(Token(kind, value, line))
        elif kind == "punct":
            append(Token(value, value, line))
        elif kind == "comment":
            line += value.count("\n")
        elif kind == "line":
            append(Token(kind, value.split("//")[0].strip(), line))
        elif kind == "bad":
            start = match.start("bad")
            raise PtxSyntaxError(f"PTX line {line}: cannot read {text[start : start + 20]!r}")
        elif kind == "end":
            append(Token("end", "end of text", line))
            break
        else:
            append(Token(str(kind), value, line))
    return result
