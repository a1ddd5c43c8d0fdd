"""Other libraries' function signatures on this engine."""
