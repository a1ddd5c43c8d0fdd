"""PTX tokens to a module: files, variables and kernels."""

from __future__ import annotations

from attnprobe.ptx.body import Body
from attnprobe.ptx.declare import SPACES
from attnprobe.ptx.ir import Kernel, Module
from attnprobe.ptx.lexer import tokens

_COUNTED_DIRECTIVES = (
    "maxntid",
    "reqntid",
    "minnctapersm",
    "maxnreg",
    "maxnctapersm",
    "reqnctapercluster",
    "maxclusterrank",
)
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


class _Parser(Body):
    """Reads a module."""

    def module(self) -> None:
        """Take everything."""
        while self.peek().kind != "end":
            token = self.peek()
            if token.kind == "line":
                self.line_directive(self.next().text)
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
            elif token.kind == "directive" and token.text[1:] in SPACES:
                for variable in self.variables():
                    self.result.variables[variable.name] = variable
            elif token.kind == "directive" or token.text == ";":
                self.skip_statement()
            else:
                raise self.fail("expected a directive")

    def _extern(self) -> None:
        if self.peek().text == ".func":
            self._skip_function()
            return
        for variable in self.variables():
            variable.external = True
            self.result.variables[variable.name] = variable

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

    def _entry(self) -> None:
        self.expect(".entry")
        token = self.next()
        self.kernel = Kernel(token.text, line=token.line)
        self.location, self.label_count = None, 0
        if self.accept("("):
            self._params()
        while self.peek().text not in ("{", ";"):
            self._performance_directive()
        if self.accept(";"):
            return
        self.scopes = []
        self.block()
        self.result.kernels[self.kernel.name] = self.kernel

    def _params(self) -> None:
        offset = 0
        while not self.accept(")"):
            (variable,) = self.variables()
            offset = -(-offset // variable.align) * variable.align
            variable.offset = offset
            offset += variable.size
            self.kernel.params.append(variable)
            self.accept(",")

    def _performance_directive(self) -> None:
        word = self.next().text[1:]
        if word in _COUNTED_DIRECTIVES:
            counts = [self.integer()]
            while self.accept(","):
                counts.append(self.integer())
            if word in ("maxntid", "reqntid"):
                product = 1
                for count in counts:
                    product *= count
                self.kernel.max_threads = product
        elif word == "pragma":
            self.skip_statement()
        elif word not in _BARE_DIRECTIVES:
            self.at -= 1
            raise self.fail("unknown directive of a kernel")
