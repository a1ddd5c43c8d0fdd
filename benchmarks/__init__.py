"""Timings of what only a checkout has: the emulator, as ``python -m benchmarks.emulator``."""
