"""The commands of the command line, one module each: ``add_parser(subparsers)`` and ``run(args)``.

These modules are imported for every call, so they import what they need inside ``run``.
"""
