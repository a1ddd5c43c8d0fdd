"""Declarations: variables of every state space, with their initial values."""

from __future__ import annotations

from attnprobe.ptx.ir import REGISTER_BITS, Variable
from attnprobe.ptx.reader import Reader

SPACES = ("global", "const", "shared", "local", "param")
_VARIABLE_BYTES = {name: max(1, bits // 8) for name, bits in REGISTER_BITS.items()}


class Declarations(Reader):
    """Reads declarations of variables."""

    def variables(self) -> list[Variable]:
        """Take a declaration, from the state space to its end."""
        space = self.next().text[1:]
        align, vector, kind = 0, 1, ""
        while self.peek().kind == "directive":
            word = self.next().text[1:]
            if word == "align":
                align = self.integer()
            elif word in ("v2", "v4"):
                vector = int(word[1])
            elif word == "ptr":
                self._pointer_attributes()
            elif word in _VARIABLE_BYTES:
                kind = word
            elif word == "attribute":
                while self.next().text != ")":
                    pass
            else:
                raise self.fail(f"unknown attribute .{word} of a variable")
        width = _VARIABLE_BYTES[kind] * vector if kind else 0
        found = [self._variable(space, align, width)]
        while space != "param" and self.accept(","):
            found.append(self._variable(space, align, width))
        if space != "param":
            self.accept(";")
        return found

    def _pointer_attributes(self) -> None:
        if self.peek().text[1:] in SPACES:
            self.next()
        if self.accept(".align"):
            self.integer()

    def _variable(self, space: str, align: int, width: int) -> Variable:
        name = self.next().text
        size = width
        external = False
        while self.accept("["):
            if self.accept("]"):
                external, size = True, 0
            else:
                size *= self.integer()
                self.expect("]")
        variable = Variable(name, space, align or width or 1, size, external=external)
        if self.accept("="):
            data, references = self._initial(width)
            variable.data = data
            variable.references = tuple(references)
            variable.size = max(variable.size, len(data))
        return variable

    def _initial(self, width: int) -> tuple[bytes, list[tuple[int, str, int]]]:
        data = bytearray()
        references: list[tuple[int, str, int]] = []
        depth = 0
        while True:
            token = self.peek()
            if token.text == "{":
                depth += 1
                self.next()
            elif token.text == "}":
                depth -= 1
                self.next()
            elif token.text == "," and depth:
                self.next()
            elif token.kind == "word":
                name = self.next().text
                if name == "generic":
                    self.expect("(")
                    name = self.next().text
                    self.expect(")")
                addend = self.integer() if self.accept("+") else 0
                references.append((len(data), name, addend))
                data += bytes(width)
            else:
                literal = self.literal()
                data += (literal.value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
            if depth == 0:
                return bytes(data), references
