"""What every stage script does before and after its work."""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from filelock import FileLock, Timeout

from semdefect.atomic import remove_unfinished
from semdefect.errors import UserError, out_of_memory
from semdefect.params import PARAMS, Params, Shape, load_shaped
from semdefect.startup import STOPPED, leave, settled, tell

#: Where stages write; what killed runs left unfinished there is removed.
_WRITTEN = ("data/splits", "models", "metrics", ".scratch")
#: Seconds that a stopped stage has to tidy up, before it is ended without.
_PATIENCE = 1.3
#: Number of this process among those of one training: on this machine, or where that is not told, of all.
_RANKS = (
    *("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK"),
    *("RANK", "PMI_RANK"),
)

#: Signals that `_stop_at_once` has taken. No event: its lock would be waited for by a handler that interrupts it.
_taken: list[int] = []


def _stop(number: int, frame: FrameType | None) -> None:
    """End like Ctrl-C, so that temporary files go and checkpoints stay. A second signal ends the process without."""
    _answer_signals(signal.SIG_DFL)
    raise KeyboardInterrupt


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    """`_stop`, but further signals are nothing, since launchers send several."""
    _taken.append(number)
    _answer_signals(signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _never_in_vain(stopped: str) -> Iterator[None]:
    """`_PATIENCE` after a signal the process ends, whatever it is in, by the sentence ``stopped``.

    Python drops what a finalizer or a callback raises, libraries catch what they should not, and while a call of a
    library lasts, no handler runs: so a thread is told by the system's own handler. Only a call that lets no other
    thread run meanwhile, of which there are few, is waited for. An error after the signal is the stop's own: libraries
    turn the handler's exception into others, and pools break where workers are ended first.
    """
    told, tells = socket.socketpair()  # a pipe does not do on Windows
    tells.setblocking(False)
    threading.Thread(target=_end_when_told, args=(told, stopped), daemon=True).start()
    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    _taken.clear()
    try:
        yield
    except BaseException:
        if _taken:
            _end(stopped)  # Python's own end, with torch in memory, takes seconds
        raise
    else:
        if _taken:  # a library kept it to itself, and may have given what it had until then
            _end(stopped)
    finally:
        signal.set_wakeup_fd(before)
        tells.close()  # ends the thread


def _forget_parent() -> None:
    """A process that was forked does not tell its parent's thread of its own signals."""
    signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


def _end_when_told(told: socket.socket, stopped: str) -> None:
    with told:
        while numbers := told.recv(64):
            if {signal.SIGINT, signal.SIGTERM} & set(numbers):
                time.sleep(_PATIENCE)
                _end(stopped)


def _answer_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as Ctrl-C is in the background jobs of a shell
            signal.signal(number, handler)


def _end(stopped: str) -> None:
    try:
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if not any("resource_tracker" in word for word in child.cmdline()):  # ends last, removes what is left
                    child.kill()
    finally:
        leave(stopped)


def _silent_when_stopped(dropped: Any) -> None:
    if not isinstance(dropped.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)


def _require_commit() -> None:
    """DVCLive fails in a DVC repository without a git commit, and would do so only after the training."""
    if not Path(".dvc").is_dir():
        return
    head = shutil.which("git") and subprocess.run(["git", "rev-parse", "-q", "--verify", "HEAD"], capture_output=True)
    if not head or head.returncode:
        raise UserError("DVC needs a git repository with a commit: run git init && git add -A && git commit -m start")


@contextmanager
def orderly(stopped: str, at_once: bool = False) -> Iterator[None]:
    """Leave the program with one clear sentence where the user can mend what is wrong, and in order when it is killed.

    Args:
        stopped: what Ctrl-C or SIGTERM prints before the exit code 130.
        at_once: end within two seconds of the signal, in the middle of what tidies up where need be.
    """
    _answer_signals(_stop_at_once if at_once else _stop)
    sys.unraisablehook = _silent_when_stopped
    # What joblib says where a stop leaves results that nobody takes, beside the sentence.
    warnings.filterwarnings("ignore", message=r"\d+ tasks (which were still|have been success)", category=UserWarning)
    try:
        with _never_in_vain(stopped) if at_once else nullcontext():
            yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        sys.exit(f"error: {error.filename or 'writing'}: {error.strerror}")
    except BrokenProcessPool:
        sys.exit(
            "error: a worker process was killed, as a rule because memory ran out: close other programs, or have fewer "
            "of them by LOKY_MAX_CPU_COUNT=1 in the environment or, where it is not 0, by synthesize.workers"
        )
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        sys.exit(
            "error: memory ran out: close other programs; a training needs less with a smaller batch_size, resolution "
            f"or fresh_per_class ({' '.join(str(error).split())[:200] or type(error).__name__})"
        )
    except KeyboardInterrupt:
        if at_once:
            _end(stopped)
        tell(stopped)
        sys.exit(STOPPED)
    finally:
        if at_once:  # what is left is the end
            _answer_signals(signal.SIG_IGN)


@contextmanager
def alone(lock: Path, taken: str, written: Iterable[Path]) -> Iterator[None]:
    """Let no other process hold ``lock`` meanwhile; what killed ones left unfinished in ``written`` goes.

    Raises:
        UserError: another process holds it, as ``taken`` says.
    """
    lock.parent.mkdir(exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(lock, blocking=False))
        except Timeout:
            raise UserError(f"{taken}: wait for its end, or end it") from None
        for folder in written:
            remove_unfinished(folder)
        yield


@contextmanager
def _once(program: str) -> Iterator[None]:
    """`alone` with this stage in this folder.

    A stage outlives DVC where DVC alone is killed, and would write between what the next `dvc repro` writes.
    """
    told = [os.environ.get(name, "") for name in _RANKS]
    if next((rank for rank in told if rank not in ("", "-1")), "0") != "0":  # the first one holds the lock
        yield
        return
    taken = f"{program} is running in this folder, perhaps since DVC was killed"
    with alone(Path(f".scratch/{program}.lock"), taken, map(Path, _WRITTEN)):
        yield


def run_stage(
    work: Callable[[Shape], None],
    description: str | None,
    path: str = PARAMS,
    shape: type[Shape] = Params,  # type: ignore[assignment]
    stopped: str = "run it again, by `dvc repro` or by hand, and it goes on after the last finished epoch or stage",
) -> None:
    """Parse the command line, check the parameters, do the work; one clear sentence when it cannot be done.

    Args:
        work: the stage; takes the checked parameters.
        path: the parameter file, where the command line names no other.
        shape: what the file holds.
        description: the script's docstring, shown by ``--help``.
        stopped: what to do after Ctrl-C or SIGTERM.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default=path, help="parameter file (default: %(default)s)")
    with settled(), orderly(stopped, at_once=True):
        arguments = parser.parse_args()
        params = load_shaped(arguments.params, shape)
        _require_commit()
        with _once(_program()):
            work(params)


def _program() -> str:
    """The dotted name of the script that runs, or its file's name without the ending."""
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).stem
