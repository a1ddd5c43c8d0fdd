"""What a person asks of the layout rows: pure functions that return frozen answers.

``matrix`` draws an operand position by position, ``dot`` writes one element of D out in registers,
``repack`` turns D into the next operand, ``load`` finds the addresses of matrix loads and stores,
``diff`` compares two operands, ``cute`` writes a layout as CuTe does. ``closed`` finds formulas.
"""
