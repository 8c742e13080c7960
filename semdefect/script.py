"""Where the ``semdefect`` script starts: in the tenths of a second that its imports take it can be stopped as well."""

import contextlib
import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line and return its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # Ctrl-C in the background jobs of a shell
            signal.signal(number, _leave)
    from semdefect.cli import main as run
    from semdefect.edge.ending import ending

    code = run()
    if ending():  # all is closed and written, and Python would wait for the images that threads decode
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second one would drop what is printed here
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    return code


def _leave(number: int, frame: FrameType | None) -> None:
    """End as the command does, at once: an exception in the middle of an import comes out as another one."""
    os._exit(128 + number)
