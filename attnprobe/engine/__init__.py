"""The attention engine: Problem -> Plan -> launch, on CuPy arrays or on the emulator."""

from attnprobe.engine.api import attention
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import Problem

__all__ = ["Plan", "Problem", "attention", "make_plan"]
