"""What each PTX opcode does: one function an opcode, by family, registered where it stands."""
