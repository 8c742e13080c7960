"""Work in processes that leave Ctrl-C and SIGTERM to the one which started them."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from joblib import Parallel
from joblib.externals.loky.backend import resource_tracker as joblib_tracker


def in_processes(calls: Iterable[Any], workers: int = -1) -> Iterator[Any]:
    """The results of ``calls``, each by `joblib.delayed`, in their order and as they come.

    Args:
        calls: what to work on.
        workers: processes; -1 takes every core.
    """
    for tracker in (resource_tracker, joblib_tracker):  # each lets signals through again when it starts
        tracker.ensure_running()
    own = (os.getpid(),)
    with _signals_held():
        results: Iterator[Any] = Parallel(n_jobs=workers, return_as="generator", initializer=_watch, initargs=own)(
            calls
        )
    return results


def _watch(parent: int) -> None:
    """Let a worker end with the process ``parent`` that started it, which stops no worker where it is killed."""
    if os.name == "posix":
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:  # not by the system's own signal, which comes when the thread ends that started us
        time.sleep(1)
    os._exit(1)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Processes that start in this block get no Ctrl-C, which a terminal sends to all: each would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # children inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
