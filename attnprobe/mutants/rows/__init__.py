"""The rows of the mutants, one module a family."""
