"""PTX tokens to a module: scopes, registers, labels, variables and instructions.

Inline asm arrives verbatim: braces are scopes as well as vectors, registers need no ``%``, labels
repeat per inlined copy, several statements share a line. Registers and labels are therefore
resolved through a stack of scopes, the innermost first.
"""

from __future__ import annotations

import struct

from attnprobe.errors import PtxSyntaxError
from attnprobe.ptx.ir import (
    REGISTER_BITS, Addr, Imm, Instr, Kernel, Label, Location, Module, Not, Operand, Pair, Reg, Sink, Special, Sym,
    Variable, Vec,
)  # fmt: skip
from attnprobe.ptx.lexer import Token, tokens

_SPACES = ("global", "const", "shared", "local", "param")
_VARIABLE_BYTES = {name: max(1, bits // 8) for name, bits in REGISTER_BITS.items()}
_COUNTED_DIRECTIVES = ("maxntid", "reqntid", "minnctapersm", "maxnreg", "maxnctapersm", "reqnctapercluster",
                       "maxclusterrank")  # fmt: skip
_BARE_DIRECTIVES = ("explicitcluster", "blocksareclusters", "noreturn", "abi_preserve")


def parse(text: str) -> Module:
    """Return the module that ``text`` is.

    Raises
    ------
    PtxSyntaxError
        With the PTX line.
    """
    module = Module(text_lines=text.splitlines())
    _Parser(tokens(text), module).module()
    return module


class _Scope:
    """Registers and labels declared between two braces, and the branches that wait for a label."""

    def __init__(self) -> None:
        self.registers: dict[str, Reg] = {}
        self.families: dict[str, tuple[int, int]] = {}  # prefix -> (count, bits)
        self.labels: dict[str, Label] = {}
        self.waiting: list[tuple[Instr, int, str]] = []  # (instruction, operand number, label name)
        self.lists: dict[str, list[str]] = {}  # .branchtargets


class _Parser:
    def __init__(self, stream: list[Token], module: Module) -> None:
        self.stream = stream
        self.at = 0
        self.result = module
        self.kernel = Kernel("")
        self.scopes: list[_Scope] = []
        self.location: Location | None = None

    # Tokens

    def peek(self, ahead: int = 0) -> Token:
        index = self.at + ahead
        return self.stream[index] if index < len(self.stream) else Token("end", "end of text", self._last_line())

    def _last_line(self) -> int:
        return self.stream[-1].line if self.stream else 1

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def accept(self, text: str) -> bool:
        if self.peek().text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        token = self.next()
        if token.text != text:
            raise PtxSyntaxError(f"PTX line {token.line}: expected {text!r}, found {token.text!r}")
        return token

    def fail(self, what: str) -> PtxSyntaxError:
        token = self.peek()
        return PtxSyntaxError(f"PTX line {token.line}: {what}, found {token.text!r}")

    # Module level

    def module(self) -> None:
        while self.peek().kind != "end":
            token = self.peek()
            if token.kind == "line":
                self._line_directive(self.next().text)
            elif token.text in (".visible", ".extern", ".weak", ".common"):
                self.next()
                if token.text == ".extern":
                    self._extern()
            elif token.text == ".entry":
                self._entry()
            elif token.text == ".func":
                self._skip_function()
            elif token.text == ".section":
                self._skip_to_brace()
                self._skip_braces()
            elif token.kind == "directive" and token.text[1:] in _SPACES:
                for variable in self._variables():
                    self.result.variables[variable.name] = variable
            elif token.kind == "directive" or token.text == ";":
                self._skip_statement()
            else:
                raise self.fail("expected a directive")

    def _extern(self) -> None:
        if self.peek().text == ".func":
            self._skip_function()
            return
        for variable in self._variables():
            variable.external = True
            self.result.variables[variable.name] = variable

    def _line_directive(self, text: str) -> None:
        words = text.replace(",", " , ").split()
        if words[0] == ".file" and len(words) > 2:
            self.result.files[int(words[1])] = text.split('"')[1]
        elif words[0] == ".loc":
            inlined = None
            if "inlined_at" in words:
                where = words.index("inlined_at")
                inlined = (int(words[where + 1]), int(words[where + 2]))
            line = int(words[2])
            # Line 0 marks code that belongs to no line: keep the last one that had a number.
            if line:
                self.location = Location(int(words[1]), line, inlined)
        elif words[0] == ".target":
            self.result.target = words[1]
        elif words[0] == ".version":
            self.result.version = words[1]

    def _skip_statement(self) -> None:
        while self.peek().kind != "end" and self.next().text != ";":
            pass

    def _skip_to_brace(self) -> None:
        while self.peek().text != "{":
            if self.next().kind == "end":
                raise self.fail("expected '{'")

    def _skip_braces(self) -> None:
        self.expect("{")
        depth = 1
        while depth:
            token = self.next()
            if token.kind == "end":
                raise self.fail("a brace is not closed")
            depth += {"{": 1, "}": -1}.get(token.text, 0)

    def _skip_function(self) -> None:
        """Skip a ``.func``: a kernel that calls one is refused where the call stands."""
        while self.peek().text not in (";", "{"):
            if self.next().kind == "end":
                raise self.fail("a .func is not closed")
        if self.peek().text == "{":
            self._skip_braces()
        else:
            self.next()

    # Variables

    def _variables(self) -> list[Variable]:
        space = self.next().text[1:]
        align, vector, kind = 0, 1, ""
        while self.peek().kind == "directive":
            word = self.next().text[1:]
            if word == "align":
                align = self._integer()
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
        if self.peek().text[1:] in _SPACES:
            self.next()
        if self.accept(".align"):
            self._integer()

    def _variable(self, space: str, align: int, width: int) -> Variable:
        name = self.next().text
        size = width
        external = False
        while self.accept("["):
            if self.accept("]"):
                external, size = True, 0
            else:
                size *= self._integer()
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
                addend = self._integer() if self.accept("+") else 0
                references.append((len(data), name, addend))
                data += bytes(width)
            else:
                literal = self._literal()
                data += (literal.value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
            if depth == 0:
                return bytes(data), references

    def _integer(self) -> int:
        value = self._literal()
        if value.float_bits:
            raise self.fail("expected an integer before this")
        return value.value

    def _literal(self) -> Imm:
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

    # Kernels

    def _entry(self) -> None:
        self.expect(".entry")
        token = self.next()
        self.kernel = Kernel(token.text, line=token.line)
        self.location = None
        if self.accept("("):
            self._params()
        while self.peek().text not in ("{", ";"):
            self._performance_directive()
        if self.accept(";"):
            return
        self.scopes = []
        self._block()
        self.result.kernels[self.kernel.name] = self.kernel

    def _params(self) -> None:
        offset = 0
        while not self.accept(")"):
            (variable,) = self._variables()
            offset = -(-offset // variable.align) * variable.align
            variable.offset = offset
            offset += variable.size
            self.kernel.params.append(variable)
            self.accept(",")

    def _performance_directive(self) -> None:
        word = self.next().text[1:]
        if word in _COUNTED_DIRECTIVES:
            counts = [self._integer()]
            while self.accept(","):
                counts.append(self._integer())
            if word in ("maxntid", "reqntid"):
                product = 1
                for count in counts:
                    product *= count
                self.kernel.max_threads = product
        elif word == "pragma":
            self._skip_statement()
        elif word not in _BARE_DIRECTIVES:
            self.at -= 1
            raise self.fail("unknown directive of a kernel")

    def _block(self) -> None:
        self.expect("{")
        self.scopes.append(_Scope())
        while not self.accept("}"):
            self._statement()
        scope = self.scopes.pop()
        for instr, operand, name in scope.waiting:
            self._resolve(scope, instr, operand, name)

    def _resolve(self, scope: _Scope, instr: Instr, operand: int, name: str) -> None:
        if name in scope.labels:
            instr.operands[operand] = scope.labels[name]
        elif name in scope.lists:
            targets = tuple(scope.labels[label] for label in scope.lists[name])
            instr.operands[operand] = Vec(targets)
        elif self.scopes:
            self.scopes[-1].waiting.append((instr, operand, name))
        else:
            raise PtxSyntaxError(f"PTX line {instr.line}: {instr.name} goes to {name!r}, which is no label here")

    def _statement(self) -> None:
        token = self.peek()
        if token.kind == "line":
            self._line_directive(self.next().text)
        elif token.text == "{":
            self._block()
        elif token.text == ";":
            self.next()
        elif token.kind == "directive":
            self._body_directive()
        elif token.kind == "word" and self.peek(1).text == ":":
            self._label()
        elif token.kind == "word" or token.text == "@":
            self._instruction()
        else:
            raise self.fail("expected a statement")

    def _label(self) -> None:
        token = self.next()
        self.expect(":")
        scope = self.scopes[-1]
        if self.peek().text == ".branchtargets":
            self.next()
            names = [self.next().text]
            while self.accept(","):
                names.append(self.next().text)
            self.expect(";")
            scope.lists[token.text] = names
            return
        if token.text in scope.labels:
            raise PtxSyntaxError(f"PTX line {token.line}: label {token.text!r} stands twice in one scope")
        label = Label(sum(isinstance(item, Label) for item in self.kernel.body), token.text)
        scope.labels[token.text] = label
        self.kernel.body.append(label)

    def _body_directive(self) -> None:
        word = self.peek().text[1:]
        if word == "reg":
            self._registers()
        elif word in _SPACES:
            self.kernel.variables.extend(self._variables())
        elif word == "pragma":
            self._skip_statement()
        else:
            raise self.fail("unknown directive in a kernel")

    def _registers(self) -> None:
        self.expect(".reg")
        kind = self.next().text[1:]
        if kind not in REGISTER_BITS:
            raise PtxSyntaxError(f"PTX line {self.peek().line}: unknown register type .{kind}")
        scope = self.scopes[-1]
        while True:
            name = self.next().text
            if self.accept("<"):
                count = self._integer()
                self.expect(">")
                scope.families[name] = (count, REGISTER_BITS[kind])
            else:
                scope.registers[name] = self._new_register(name, REGISTER_BITS[kind])
            if not self.accept(","):
                break
        self.expect(";")

    def _new_register(self, name: str, bits: int) -> Reg:
        register = Reg(len(self.kernel.registers), name, bits)
        self.kernel.registers.append(register)
        return register

    def register(self, name: str) -> Reg | None:
        """Return the register that ``name`` means here, or None if it is not one."""
        for scope in reversed(self.scopes):
            found = scope.registers.get(name)
            if found is not None:
                return found
            prefix = name.rstrip("0123456789")
            for length in range(len(prefix), len(name)):
                family = scope.families.get(name[:length])
                if family is not None and name[length:].isdigit() and int(name[length:]) < family[0]:
                    scope.registers[name] = self._new_register(name, family[1])
                    return scope.registers[name]
        return None

    # Instructions

    def _instruction(self) -> None:
        guard: tuple[Reg, bool] | None = None
        if self.accept("@"):
            negated = self.accept("!")
            name = self.next().text
            register = self.register(name)
            if register is None:
                raise PtxSyntaxError(f"PTX line {self.peek().line}: no predicate register {name!r}")
            guard = (register, negated)
        token = self.next()
        if token.kind != "word":
            self.at -= 1
            raise self.fail("expected an opcode")
        op, *mods = token.text.split(".")
        instr = Instr(token.text, op, tuple(mods), [], guard, token.line, self.location)
        if op == "call":
            # Its operand list has a form of its own; the opcode is refused later, by name.
            while self.peek().text != ";":
                self.next()
        while not self.accept(";"):
            self._operand_into(instr)
            if self.peek().text != ";":
                self.expect(",")
        self.kernel.body.append(instr)

    def _operand_into(self, instr: Instr) -> None:
        jumps = instr.op in ("bra", "brx")
        token = self.peek()
        if jumps and token.kind == "word" and self.register(token.text) is None:
            self.next()
            self.scopes[-1].waiting.append((instr, len(instr.operands), token.text))
            instr.operands.append(Sink())
            return
        instr.operands.append(self._operand())

    def _operand(self) -> Operand:
        token = self.peek()
        if token.text == "{":
            return self._vector()
        if token.text == "[":
            return self._address()
        if token.text == "!":
            self.next()
            inner = self._operand()
            if not isinstance(inner, Reg):
                raise self.fail("'!' stands before a predicate only")
            return Not(inner)
        if token.kind in ("int", "float") or token.text == "-":
            return self._literal()
        if token.kind != "word":
            raise self.fail("expected an operand")
        first = self._name()
        if self.accept("|"):
            return Pair(first, self._name())
        return first

    def _name(self) -> Operand:
        name = self.next().text
        if name == "_":
            return Sink()
        register = self.register(name)
        if register is not None:
            return register
        if name == "WARP_SZ":
            return Imm(32)
        if name.startswith("%"):
            return Special(name[1:])
        offset = 0
        if self.peek().text in ("+", "-"):
            sign = 1 if self.next().text == "+" else -1
            offset = sign * self._integer()
        return Sym(name, offset)

    def _vector(self) -> Operand:
        self.expect("{")
        items = [self._operand()]
        while self.accept(","):
            items.append(self._operand())
        self.expect("}")
        return Vec(tuple(items))

    def _address(self) -> Operand:
        self.expect("[")
        base: Reg | Sym | None = None
        offset = 0
        if self.peek().kind == "word":
            named = self._name()
            if isinstance(named, Sym):
                base, offset = Sym(named.name), named.offset
            elif isinstance(named, Reg):
                base = named
            else:
                raise self.fail("an address starts with a register or a variable")
        else:
            offset = self._integer()
        while self.peek().text in ("+", "-"):
            sign = 1 if self.next().text == "+" else -1
            offset += sign * self._integer()
        self.expect("]")
        return Addr(base, offset)


def _float_literal(text: str, negative: bool) -> Imm:
    if text[:2] in ("0f", "0F"):
        return Imm(int(text[2:], 16) ^ (0x80000000 if negative else 0), 32)
    if text[:2] in ("0d", "0D"):
        return Imm(int(text[2:], 16) ^ (1 << 63 if negative else 0), 64)
    value = -float(text) if negative else float(text)
    return Imm(int.from_bytes(struct.pack("<d", value), "little"), 64)
