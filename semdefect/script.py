"""Where the ``semdefect`` script starts: in the tenths of a second that its imports take it can be stopped as well."""

import os
import signal
from types import FrameType


def main() -> int:
    """Run the command line and return its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # Ctrl-C in the background jobs of a shell
            signal.signal(number, _leave)
    from semdefect.cli import main as run

    return run()


def _leave(number: int, frame: FrameType | None) -> None:
    """End as the command does, at once: an exception in the middle of an import comes out as another one."""
    os._exit(128 + number)
