"""`python -m evalmesh.simulator`: the model simulator in a process of its own."""

import sys

from evalmesh.simulator.cli import main

if __name__ == "__main__":
    sys.exit(main())
