"""Work in processes that leave Ctrl-C and SIGTERM to the one which started them."""

import signal
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
    with _signals_held():
        results: Iterator[Any] = Parallel(n_jobs=workers, return_as="generator")(calls)
    return results


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
