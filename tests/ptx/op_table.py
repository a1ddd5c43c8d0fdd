"""All rows of opcodes: importing the parts fills the table."""

from __future__ import annotations

from tests.ptx import op_bits, op_compare, op_convert, op_floats, op_integers
from tests.ptx.op_row import ROWS, Row

PARTS = (op_integers, op_bits, op_floats, op_compare, op_convert)

__all__ = ["PARTS", "ROWS", "Row"]
