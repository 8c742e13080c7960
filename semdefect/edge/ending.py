"""Ctrl-C and SIGTERM end a command: with its exit code, its files closed, and never in vain.

Python raises an exception in whatever runs when the signal comes. Where that is a finalizer or a callback, the
exception is dropped, and a program that is to run for days would go on. So the signal is remembered as well, and
loops ask.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_received: list[int] = []


class Ended(BaseException):
    """A signal asked the program to end.

    Attributes:
        code: exit code, 128 and the number of the signal: 130 or 143.
    """

    def __init__(self, number: int) -> None:
        """End because of the signal ``number``."""
        super().__init__(number)
        self.code = 128 + number


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise ``Ended`` in the block, and by ``check``, when SIGINT or SIGTERM comes.

    A signal that was ignored, as Ctrl-C is in the background jobs of a shell, stays so.
    """
    if threading.current_thread() is not threading.main_thread():  # others may not set handlers
        yield
        return
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _end) for number in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, _told_unless_ended
    _received.clear()
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def check() -> None:
    """Raise ``Ended`` when a signal has come."""
    if ending():
        raise Ended(_received[0])


def ending() -> bool:
    """Whether a signal has come, so that nothing is to be waited for."""
    return bool(_received)


def _end(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise Ended(number)


def _told_unless_ended(dropped: Any) -> None:
    if not isinstance(dropped.exc_value, Ended):  # which check raises again
        sys.__unraisablehook__(dropped)
