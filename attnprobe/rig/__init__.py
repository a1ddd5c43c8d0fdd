"""The regression rig: any attention callable, run on data that shows faults, and judged.

targets, signatures, libraries    whose attention, how it is called, whose arrays it takes
suite, worker, crew               what is run, in which process, and who watches it
verdict, state, evidence          what came out, kept so that a run goes on where it stopped
"""
