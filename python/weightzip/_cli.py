"""`wz`: the command line, as the console script of this package."""

import signal
import sys

from weightzip import _weightzip


def main() -> int:
    # Ctrl-C ends it as it ends any program: the command line has its own answer to it, and Python's
    # would wait for the end. Where it is ignored, as in a shell's background jobs, it stays so.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _weightzip.cli(["wz", *sys.argv[1:]])
