"""Renderers: each turns a frozen report into text, a coloured terminal table, JSON or CSV.

A subject's module (``layout``) lays a report out as a document of headings, lines and tables, and
as plain objects; ``text`` and ``console`` draw documents, ``json`` and ``csv`` write the objects.
"""
