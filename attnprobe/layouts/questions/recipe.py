"""A repack written out: a line of PTX and a statement of CUDA C++ for each move.

In C++, D is ``d[tile][word]`` and the operand ``a[tile][word]`` (or ``b``): 32-bit words, so a
register of 64 bits is two. ``lane`` is the thread's number in its warp or warpgroup.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnprobe.layouts.instruction import Operand
from attnprobe.layouts.questions import closed
from attnprobe.layouts.questions.convert import KEEP, Conversion, conversion
from attnprobe.layouts.questions.moves import Converted, Exchanged, Given, Node, Permuted
from attnprobe.layouts.questions.placement import Placement

_LOW, _HIGH = 0x3210, 0x7654  # selectors of prmt that give the one word or the other as it is


@dataclass(frozen=True)
class Step:
    """One move.

    Attributes
    ----------
    kind : "convert", "exchange" or "permute".
    result : the register that it makes.
    ptx : its instructions, a line each; lane-dependent numbers are C++ expressions in ``lane``.
    code : the same as one CUDA C++ statement.
    """

    kind: str
    result: str
    ptx: tuple[str, ...]
    code: str


@dataclass(frozen=True)
class Recipe:
    """The steps, and which register every register of the operand is.

    Attributes
    ----------
    order : order of k for which the recipe holds; () for that of the operand.
    steps : in the order in which they can be executed.
    results : (register of the operand, what it is): equal where a step makes it, else one of D.
    """

    order: tuple[int, ...]
    steps: tuple[Step, ...]
    results: tuple[tuple[str, str], ...]

    def count(self, kind: str) -> int:
        """Return how many steps are of ``kind``."""
        return sum(step.kind == kind for step in self.steps)

    def code(self) -> str:
        """Return the recipe as CUDA C++ statements; d and the operand's registers are declared."""
        lines = [step.code for step in self.steps]
        lines += [f"{name} = {value};" for name, value in self.results if name != value]
        return "\n".join(lines)


def write(placement: Placement, words: tuple[Node, ...], order: tuple[int, ...] = ()) -> Recipe:
    """Return the recipe that makes ``words``."""
    made = conversion(placement.source.format, placement.target.format)
    return _Writer(placement, made).write(words, order)


class _Writer:
    def __init__(self, placement: Placement, made: Conversion) -> None:
        self.placement = placement
        self.made = made
        self.names: dict[Node, str] = {}
        self.steps: list[Step] = []
        self.counts = {"p": 0, "x": 0}

    def write(self, words: tuple[Node, ...], order: tuple[int, ...]) -> Recipe:
        target = self.placement.target
        names = [_word_name(target, number) for number in range(len(words))]
        for node, name in zip(words, names, strict=True):
            if not isinstance(node, Given):
                self.names.setdefault(node, name)  # the first register that is this value makes it
        written: set[Node] = set()
        for node in words:
            self._visit(node, written)
        results = tuple((name, self._name(node)) for node, name in zip(words, names, strict=True))
        return Recipe(order, tuple(self.steps), results)

    def _visit(self, node: Node, written: set[Node]) -> None:
        if node in written or isinstance(node, Given):
            return
        written.add(node)
        match node:
            case Converted(elements):
                self.steps.append(self._convert(self._name(node), elements))
            case Exchanged(value, lanes):
                self._visit(value, written)
                self.steps.append(self._exchange(self._name(node), self._name(value), lanes))
            case Permuted(low, high, selectors):
                self._visit(low, written)
                self._visit(high, written)
                names = self._name(node), self._name(low), self._name(high)
                self.steps.append(self._permute(*names, selectors))

    def _name(self, node: Node) -> str:
        if isinstance(node, Given):
            return _word_name(self.placement.source, node.word)
        if node not in self.names:
            kind = "x" if isinstance(node, Exchanged) else "p"
            self.names[node] = f"{kind}{self.counts[kind]}"
            self.counts[kind] += 1
        return self.names[node]

    def _target(self, name: str) -> str:
        return name if "[" in name else f"const u32_t {name}"

    def _exchange(self, name: str, value: str, lanes: tuple[int, ...]) -> Step:
        # Every warp does the same within itself: the lane to read is that of warp 0.
        giver = closed.in_cpp([lane % 32 for lane in lanes], "lane")
        ptx = f"shfl.sync.idx.b32 {name}, {value}, {giver}, 31, 0xffffffff"
        code = f"{self._target(name)} = __shfl_sync(0xffffffffu, {value}, {giver});"
        return Step("exchange", name, (ptx,), code)

    def _permute(self, name: str, low: str, high: str, selectors: tuple[int, ...]) -> Step:
        if set(selectors) == {_LOW, _HIGH}:
            chosen = closed.in_cpp([int(each == _HIGH) for each in selectors], "lane")
            ptx = f"selp.b32 {name}, {high}, {low}, {chosen}"
            code = f"{self._target(name)} = {chosen} ? {high} : {low};"
            return Step("permute", name, (ptx,), code)
        selector = closed.in_cpp(selectors, "lane", hexadecimal=True)
        ptx = f"prmt.b32 {name}, {low}, {high}, {selector}"
        code = f"{self._target(name)} = __byte_perm({low}, {high}, {selector});"
        return Step("permute", name, (ptx,), code)

    def _convert(self, name: str, elements: tuple[int, ...]) -> Step:
        sources = [self._register(element) for element in elements[:: 2 if self.made.packed else 1]]
        if self.made.chained:
            ptx, inside = _chained(self.made.ptx, name, sources)
        elif self.made.group == 1 or (len(elements) == 2 and not self.made.packed):
            ptx = (f"{self.made.ptx} {', '.join([name, *reversed(sources)])}",)
            inside = _numbered(ptx[0], [name, *sources]) + ";"
        else:
            ptx, inside = _halves(self.made, name, sources)
        kind = "f" if self.placement.source.format.name == "f32" else "r"
        read = ", ".join(f'"{kind}"({_as(kind, source)})' for source in sources)
        declared = "" if "[" in name else f"u32_t {name}; "
        # A chain writes its result before it has read all it needs.
        written = "=&r" if self.made.chained else "=r"
        code = f'{declared}asm("{inside}" : "{written}"({name}) : {read});'
        return Step("convert", name, ptx, code)

    def _register(self, element: int) -> str:
        tile, within = divmod(element, self.placement.source.fragment.elements)
        register, _ = self.placement.source.slot(within)
        return f"d[{tile}][{register}]"


def _as(kind: str, source: str) -> str:
    return f"__uint_as_float({source})" if kind == "f" else source


def _numbered(text: str, names: list[str]) -> str:
    """Return an instruction with ``%0``, ``%1``, ... for the names, as inline assembly has it."""
    for number, name in enumerate(names):
        text = text.replace(name, f"%{number}")
    return text


def _chained(ptx: str, name: str, sources: list[str]) -> tuple[tuple[str, ...], str]:
    """Pack from the top down, two at a time: each instruction moves up what is packed already."""
    lines, before = [], "0"
    for high in range(len(sources) - 1, 0, -2):
        lines.append(f"{ptx} {name}, {sources[high]}, {sources[high - 1]}, {before}")
        before = name
    inside = "; ".join(_numbered(line, [name, *sources]) for line in lines) + ";"
    return tuple(lines), inside


def _halves(made: Conversion, name: str, sources: list[str]) -> tuple[tuple[str, ...], str]:
    """Convert two at a time to 16 bits, and join the halves."""
    step = 1 if made.packed else 2
    lines = []
    for half, first in zip(("lo", "hi"), range(0, len(sources), step), strict=True):
        given = ", ".join(reversed(sources[first : first + step]))
        lines.append(f"{made.ptx} {half}, {given}")
    joined = (*lines, f"mov.b32 {name}, {{lo, hi}}")
    inside = "; ".join(_numbered(line, [name, *sources]) for line in joined)
    return joined, f"{{ .reg .b16 lo, hi; {inside}; }}"


def _word_name(operand: Operand, word: int) -> str:
    per_tile = operand.registers * max(1, operand.format.bits // 32)
    tile, within = divmod(word, per_tile)
    return f"{operand.name.lower()}[{tile}][{within}]"


def keeps_bits(placement: Placement) -> bool:
    """Return whether the operand's format is D's, so that nothing is converted."""
    return conversion(placement.source.format, placement.target.format) is KEEP
