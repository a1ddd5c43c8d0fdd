"""The stand-in for hardware is a plain module of tests/probing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "probing"))
