"""`python -m evalmesh.load_generator.feeder --feed-fd N`: prepares requests for the engine at the other end of N."""

import signal
import socket
import sys

from evalmesh.load_generator.feeder.process import Feeder, speak


def main(arguments: list[str]) -> int:
    """Exit status: 0 when the input ended, 2 for wrong arguments."""
    if len(arguments) != 2 or arguments[0] != "--feed-fd" or not arguments[1].isdigit():
        sys.stderr.write("usage: python -m evalmesh.load_generator.feeder --feed-fd N\n")
        return 2
    # Ctrl-C at a terminal is for the service, which then ends the input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Feeder(socket.socket(fileno=int(arguments[1])), sys.stdin.buffer, speak).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
