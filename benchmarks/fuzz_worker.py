"""A process that reads hostile files, watched from outside: it may hang, die or eat memory, and that is told."""

import json
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

#: Seconds of processor time that one file may take, and seconds that its reader may wait without using any.
MOST_SECONDS = 5.0

#: Peak memory in MB (10^6 bytes) of the whole process, Python and its libraries included, that one file may cause.
MOST_MB = 1500.0

#: Seconds on the clock after which a process is ended: on a busy machine, processor time passes more slowly.
PATIENCE = 40.0


@dataclass(frozen=True)
class Report:
    """What came of one file: ``answer``, ``refused`` or a finding in words, and what that took."""

    outcome: str
    seconds: float
    peak_mb: float
    waited: float = 0.0  #: seconds on the clock in which it neither computed nor waited for a core

    @property
    def finding(self) -> str | None:
        """What is wrong, if anything."""
        if self.outcome not in ("answer", "refused"):
            return self.outcome
        if self.seconds > MOST_SECONDS:
            return f"finding: took {self.seconds:.1f} s of processor time"
        if self.waited > MOST_SECONDS:
            return f"finding: waited {self.waited:.1f} s"
        if self.peak_mb > MOST_MB:
            return f"finding: took {self.peak_mb:.0f} MB"
        return None


class Worker:
    """One process of `benchmarks.fuzz_child`, started again after it dies; a context manager."""

    def __init__(self, kind: str, model: Path) -> None:
        """Feed targets of ``kind``; ``model`` is a valid one."""
        self._command = [sys.executable, "-m", "benchmarks.fuzz_child", kind, str(model)]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by __exit__
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Worker":
        """The worker itself; the process starts with the first file."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the process."""
        self._end()
        self._errors.close()

    def read(self, path: Path) -> Report:
        """Let the process read ``path``."""
        process = self._running()
        assert process.stdin and process.stdout
        with suppress(BrokenPipeError):  # it died after its last answer: reading tells
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else ""
        if line.startswith("{"):
            return Report(**json.loads(line))
        if line:
            self._end()
            return Report(f"finding: a library prints {line[:200]!r}", 0.0, 0.0)
        seconds = 0.0 if ready else PATIENCE
        self._end()
        return Report(f"finding: {self._last_words(process.returncode) if ready else 'hangs'}", seconds, 0.0)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=self._errors, text=True)
            assert self._process.stdout
            self._process.stdout.readline()  # imports are not the file's fault
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            with suppress(BrokenPipeError), self._process as process:
                assert process.stdin
                with suppress(BrokenPipeError):
                    process.stdin.close()  # it ends where it finds nothing to read
                try:
                    process.wait(0.5)
                except subprocess.TimeoutExpired:
                    process.kill()
        self._process = None

    def _last_words(self, code: int) -> str:
        """How a process died."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process died ({name}); {lines[-1][:200] if lines else ''}"
