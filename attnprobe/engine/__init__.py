"""The attention engine: Problem -> Plan -> launch, on CuPy arrays or on the emulator."""

from attnprobe.engine.api import attention
from attnprobe.engine.merge import merge_states
from attnprobe.engine.paged import attention_paged
from attnprobe.engine.plan import Plan, make_plan
from attnprobe.engine.problem import Problem
from attnprobe.engine.varlen import attention_varlen

__all__ = [
    "Plan",
    "Problem",
    "attention",
    "attention_paged",
    "attention_varlen",
    "make_plan",
    "merge_states",
]
