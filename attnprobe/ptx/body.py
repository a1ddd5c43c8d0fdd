"""Kernel bodies: scopes, registers, labels, statements and operands.

Inline asm arrives verbatim: braces are scopes as well as vectors, registers need no ``%``, labels
repeat per inlined copy, several statements share a line. Registers and labels are therefore
resolved through a stack of scopes, the innermost first.
"""

from __future__ import annotations

from attnprobe.errors import PtxSyntaxError
from attnprobe.ptx.declare import SPACES, Declarations
from attnprobe.ptx.ir import (
    REGISTER_BITS,
    Addr,
    Imm,
    Instr,
    Kernel,
    Label,
    Location,
    Module,
    Not,
    Operand,
    Pair,
    Reg,
    Sink,
    Special,
    Sym,
    Vec,
)  # fmt: skip
from attnprobe.ptx.lexer import Token


class Scope:
    """Registers and labels declared between two braces, and the branches that wait for a label."""

    def __init__(self) -> None:
        self.registers: dict[str, Reg] = {}
        self.families: dict[str, tuple[int, int]] = {}  # prefix -> (count, bits)
        self.labels: dict[str, Label] = {}
        self.waiting: list[tuple[Instr, int, str]] = []  # (instruction, operand number, label name)
        self.lists: dict[str, list[str]] = {}  # .branchtargets


class Body(Declarations):
    """Reads the body of one kernel after another into ``kernel``."""

    def __init__(self, stream: list[Token], module: Module) -> None:
        super().__init__(stream)
        self.result = module
        self.kernel = Kernel("")
        self.scopes: list[Scope] = []
        self.location: Location | None = None
        self.label_count = 0

    def line_directive(self, text: str) -> None:
        """Follow a directive that ends with its line: .loc, .file, .target, .version."""
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

    def block(self) -> None:
        """Take a block in braces."""
        self.expect("{")
        self.scopes.append(Scope())
        while not self.accept("}"):
            self._statement()
        scope = self.scopes.pop()
        for instr, operand, name in scope.waiting:
            self._resolve(scope, instr, operand, name)

    def _resolve(self, scope: Scope, instr: Instr, operand: int, name: str) -> None:
        if name in scope.labels:
            instr.operands[operand] = scope.labels[name]
        elif name in scope.lists:
            targets = tuple(scope.labels[label] for label in scope.lists[name])
            instr.operands[operand] = Vec(targets)
        elif self.scopes:
            self.scopes[-1].waiting.append((instr, operand, name))
        else:
            raise PtxSyntaxError(
                f"PTX line {instr.line}: {instr.name} goes to {name!r}, which is no label here"
            )

    def _statement(self) -> None:
        token = self.peek()
        if token.kind == "line":
            self.line_directive(self.next().text)
        elif token.text == "{":
            self.block()
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
            raise PtxSyntaxError(
                f"PTX line {token.line}: label {token.text!r} stands twice in one scope"
            )
        label = Label(self.label_count, token.text)
        self.label_count += 1
        scope.labels[token.text] = label
        self.kernel.body.append(label)

    def _body_directive(self) -> None:
        word = self.peek().text[1:]
        if word == "reg":
            self._registers()
        elif word in SPACES:
            self.kernel.variables.extend(self.variables())
        elif word == "pragma":
            self.skip_statement()
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
                count = self.integer()
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
                if (
                    family is not None
                    and name[length:].isdigit()
                    and int(name[length:]) < family[0]
                ):
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
            return self.literal()
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
            offset = sign * self.integer()
        return Sym(name, offset)

    def _vector(self) -> Vec:
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
            offset = self.integer()
        while self.peek().text in ("+", "-"):
            sign = 1 if self.next().text == "+" else -1
            offset += sign * self.integer()
        coordinates: tuple[Operand, ...] = ()
        if self.accept(","):
            coordinates = self._vector().items
        self.expect("]")
        return Addr(base, offset, coordinates)
