"""What a stage's process settles before it imports anything: how it computes, and how it ends, now and later.

Imports nothing that takes time.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

STOPPED = 130
#: Instructions of x86 processors with which numpy may round functions of float32 otherwise than with AVX2, as it does
#: without AVX2, where one image in thirty differs by a grey value.
#: The names of numpy 2.4; those that a processor or numpy lacks do no harm.
_OTHER_ROUNDING = "X86_V4 AVX512_ICL AVX512_SPR"
#: The last is the exit code, where it is known already.
_codes: list[int] = []


def settle() -> None:
    """End by one sentence on Ctrl-C or SIGTERM from now on, and draw the same images with and without AVX-512.

    No garbage is collected before `settled`, and after it the end is a quick one.
    Only where a program ``python -m package.module`` starts: does nothing where its package is imported by another.
    Child processes inherit what concerns numpy.
    """
    if sys.argv[0] != "-m":  # so it is called while Python looks for the module, and imports its package
        return
    os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", _OTHER_ROUNDING)
    # What joblib's semaphores left is removed by its tracker, which need not say so after each stop.
    quiet = [os.environ.get("PYTHONWARNINGS", ""), "ignore:resource_tracker:UserWarning"]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, quiet))
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # Ctrl-C in background jobs of a shell
            signal.signal(number, _leave)
    atexit.register(_end_quickly)  # before what is imported registers anything, so that it runs last
    gc.disable()  # until `settled`: while torch and timm are imported there is much to look through, and no garbage


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """Around all that a program does once its imports are done: garbage is collected again, but for what these made.

    Where `settle` was called, the end that follows is a quick one, but for an uncaught exception's.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    try:
        yield
    except SystemExit as end:
        _codes.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    _codes.append(0)


def _end_quickly() -> None:
    """End after the other callbacks of `atexit`: what else Python does takes seconds with torch in memory."""
    if not _codes:
        return
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):
        return  # Python's own end tells it
    os._exit(_codes[-1])


def start_again() -> None:
    """Run this program from its beginning once more where numpy was imported without what `settle` tells it.

    For programs in a package that the device imports too, where nothing may be settled.
    """
    if "NPY_DISABLE_CPU_FEATURES" not in os.environ:
        os.environ["NPY_DISABLE_CPU_FEATURES"] = _OTHER_ROUNDING
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: an exception in the middle of an import comes out as a traceback, or as another exception."""
    leave("nothing was begun")


def leave(sentence: str) -> None:
    """End the process at once with the exit code `STOPPED`, without a look at what it holds open."""
    try:
        tell(sentence)
    finally:
        os._exit(STOPPED)


def tell(sentence: str) -> None:
    """Say on standard error that the program was stopped; where nobody reads there any more, nothing is said."""
    with contextlib.suppress(OSError):
        os.write(2, f"\nstopped; {sentence}\n".encode())
