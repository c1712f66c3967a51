"""`python -m unmul` is the command line."""

import sys

from unmul.cli.app import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
