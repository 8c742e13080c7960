"""Calls spread over the cores of this machine, or over the workers of a Dask cluster, through joblib.

A worker returns what it made, and the caller writes it. So no worker needs a file system that others see, a file
appears where the caller wants it, and one process alone decides whether it is whole. Pictures cost little to send: a
PNG of 224 px, some 25 kB, takes a core longer to draw than a network of 100 Mbit/s to carry.
"""

import hashlib
import multiprocessing
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from joblib import Parallel, delayed, parallel_config

from semdefect import synthesis
from semdefect.errors import UserError
from semdefect.workers import in_processes

Result = TypeVar("Result")

#: Seconds until a scheduler must have answered, until it must have a worker, and, where tasks are short,
#: until the next result must be there.
CONNECT, FIRST_WORKER, PATIENCE = 3, 5, 600


def in_parallel(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    workers: int,
    scheduler: str = "",
    patience: float = PATIENCE,
) -> Iterator[Result]:
    """``function(*call)`` for each of ``calls``, in their order; ``calls`` is read as workers become free.

    Args:
        function: at the top level of a module, as are the classes of what it takes and returns.
        workers: processes on this machine; 0 for every core. A cluster uses all that it has.
        scheduler: address of a Dask scheduler, ``tcp://host:8786``; empty for this machine.
        patience: seconds within which a cluster has to return the next result.

    Raises:
        UserError: the cluster cannot be used, and why: packages are missing here, nobody answers at the address, it has
            no workers, a worker would draw other pixels, or nothing came back in time.
        Exception: whatever ``function`` or ``calls`` raise.
    """
    if not scheduler:
        yield from in_processes((delayed(function)(*call) for call in calls), workers or -1)
        return
    expected = fingerprint()
    with _client(scheduler) as client, parallel_config(backend="dask", client=client):
        _require_workers(client, scheduler, expected)
        tasks = (delayed(_alike)(expected, function, call) for call in calls)
        try:
            # joblib never hears of a task that a worker cannot even load: without a limit it would wait for ever.
            yield from Parallel(n_jobs=-1, return_as="generator", timeout=patience)(tasks)
        except (TimeoutError, multiprocessing.TimeoutError):  # joblib raises the second, which is not the first
            raise UserError(
                f"the workers of {scheduler} returned nothing for {patience:.0f} s: look at their logs, and run again"
            ) from None


@cache
def fingerprint() -> tuple[str, ...]:
    """What decides an image's bytes: the renderer's sources, the packages that draw and write, numpy's instructions."""
    sources = hashlib.sha256()
    for file in sorted(Path(synthesis.__file__).parent.rglob("*.py")):
        sources.update(file.read_bytes())
    packages = [f"{package} {version(package)}" for package in ("numpy", "pillow", "scipy")]
    chosen = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    instructions = f"numpy with {' '.join(chosen) or 'plain'} instructions"
    return (f"renderer {synthesis.RENDERER_VERSION} ({sources.hexdigest()[:12]})", *packages, instructions)


def _alike(expected: tuple[str, ...], function: Callable[..., Result], call: tuple[Any, ...]) -> Result:
    """``function(*call)`` on a worker, which may have joined after the others were asked."""
    _require_alike(expected, fingerprint(), socket.gethostname())
    return function(*call)


def _require_alike(expected: tuple[str, ...], found: tuple[str, ...], where: str) -> None:
    for ours, theirs in zip(expected, found, strict=True):
        if ours != theirs:
            raise UserError(
                f"the Dask worker on {where} has {theirs} and this machine {ours}, so that it would draw other images: "
                f"install the same commit and requirements.txt there, and start it as docs/scale.md says"
            )


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    """A connection to the scheduler, closed at the end."""
    try:
        from distributed import Client  # here: nobody else needs it, and it takes half a second
    except ImportError:
        raise UserError('a Dask cluster needs the package distributed: pip install "semdefect[dask]"') from None
    try:
        client = Client(scheduler, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, RuntimeError, TypeError) as fault:  # the last: tls:// without certificates
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise UserError(
            f"synthesize.dask_scheduler: no Dask scheduler answers at {scheduler} ({reason}): start one with "
            f'`dask scheduler`, mend the address, or set it to "" to use this machine'
        ) from None
    with client:
        yield client


def _require_workers(client: Any, scheduler: str, expected: tuple[str, ...]) -> None:
    """Refuse a cluster without workers, or with one that would draw other images."""
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER)
    except TimeoutError:
        raise UserError(
            f"synthesize.dask_scheduler: {scheduler} has no workers: start some with `dask worker {scheduler}`"
        ) from None
    try:
        found = client.run(fingerprint)
    except ImportError as missing:
        raise UserError(
            f"a worker of {scheduler} cannot draw ({missing}): install this commit and requirements.txt there"
        ) from None
    for worker, theirs in sorted(found.items()):
        _require_alike(expected, theirs, worker)
