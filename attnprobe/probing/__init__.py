"""Probes: questions as data, launches generated from layout rows, comparisons with the rows."""
