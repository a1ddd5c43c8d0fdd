"""One row of each kind of warp-level instruction, for tests that would take too long on all."""

from attnprobe import layouts
from attnprobe.layouts import Instruction
from attnprobe.probing import definition, session

FAMILIES = ("mma", "mma.sp", "ldmatrix", "stmatrix", "movmatrix")
QUESTIONS = {  # family -> what is asked about its layout, with the operands that it tells about
    "mma": {"operand_layout": "ABCD", "operand_planes": "ABCD"},
    "mma.sp": {"sparse_operands": "ABCD", "sparse_metadata": "E"},
    "ldmatrix": {"ldmatrix_layout": "D"},
    "stmatrix": {"stmatrix_layout": "R"},
    "movmatrix": {"movmatrix_layout": "DA"},
}


def kinds() -> list[Instruction]:
    """Return a row for each layout: those that differ by sign, saturation or order are one kind."""
    found: dict[object, Instruction] = {}
    for row in layouts.rows(*FAMILIES):
        if not row.runs_on(90):
            continue
        places = tuple((each.name, each.fragment, each.format.bits) for each in row.operands)
        asked = tuple(item.name for _, item in session.pairs([row], definition.questions()))
        layout_asked = tuple(name for name in asked if name in QUESTIONS[row.family])
        xor = ".xor." in row.ptx
        found.setdefault((row.family, row.transposed, places, layout_asked, xor), row)
    return list(found.values())


KINDS = kinds()
