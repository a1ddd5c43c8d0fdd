"""What each PTX opcode does: one function an opcode, grouped by family, registered where it
stands.
"""
