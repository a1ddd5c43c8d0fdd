"""Probes: questions as data, launches generated from layout rows, and comparisons of what came with the rows."""
