"""``python -m attnprobe``: the same as the ``attnprobe`` command."""

import sys

from attnprobe.cli import main

if __name__ == "__main__":
    sys.exit(main())
