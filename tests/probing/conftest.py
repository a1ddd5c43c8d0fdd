"""Helpers of the probe tests are plain modules of this folder and of tests/layouts."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "layouts")]
