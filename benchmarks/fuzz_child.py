"""A process that gives files to semdefect one by one and says what came of each: run by `benchmarks.fuzz_worker`.

    python -m benchmarks.fuzz_child KIND MODEL

Says that it is ready, then reads one path a line and prints one JSON object a line: what came of it, seconds of
processor time, peak memory in MB, seconds of waiting.
"""

import contextlib
import io
import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import Image

#: What a case may allocate, so that one that runs wild ends itself and not the machine.
CEILING = 8 * 2**30

#: The first line that is printed: all is imported, and the clock may run.
READY = "ready"

#: What a valid model is asked.
PROBE = Image.effect_noise((64, 48), 40)

Target = Callable[[Path], str]


def classify(model: Path) -> Target:
    """``semdefect classify FILE --json``: one row, an answer or an error."""
    from semdefect.edge.cli import main

    def target(path: Path) -> str:
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = main(["classify", "--json", "--model", str(model), str(path)])
        row = json.loads(out.getvalue())
        if (code == 0) != ("label" in row) or (code == 1) != ("error" in row):
            return f"finding: exit code {code} with {out.getvalue()[:200]}"
        return "answer" if code == 0 else _judged(row["error"], path)

    return target


def score(model: Path) -> Target:
    """``semdefect score FOLDER`` on a labelled folder that holds the file and a good one."""
    from semdefect.edge.cli import main

    def target(path: Path) -> str:
        folder = path.with_name("labelled")
        for name in ("bridge/a.png", "clean/b.png"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PROBE.save(folder / "clean/b.png")
        (folder / "bridge/a.png").write_bytes(path.read_bytes())
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = main(["score", str(folder), "--json", "--model", str(model)])
        unreadable = json.loads(out.getvalue())["unreadable"]
        if bool(code) != bool(unreadable):
            return f"finding: exit code {code} with {unreadable}"
        return _judged(unreadable[0]["error"], folder / "bridge/a.png") if unreadable else "answer"

    return target


def load_model(_: Path) -> Target:
    """``EdgeClassifier(FILE)`` and one image."""
    from semdefect.edge import EdgeClassifier

    return _target(lambda path: EdgeClassifier(path).classify(PROBE))


def read_manifest(_: Path) -> Target:
    """``read_manifest(FILE)``."""
    from semdefect.manifest import read_manifest

    return _target(read_manifest)


def load_params(_: Path) -> Target:
    """``load_params(FILE)``."""
    from semdefect.params import load_params

    return _target(load_params)


def load_weights(_: Path) -> Target:
    """``init: FILE``."""
    from semdefect.network import create_network

    return _target(lambda path: create_network("mobilenetv3_small_050", 32, str(path)))


def resume(model: Path) -> Target:
    """``semdefect classify --output FILE --resume`` on an empty list of further images."""
    from semdefect.edge import EdgeClassifier
    from semdefect.edge.results import Results

    classifier = EdgeClassifier(model)

    def opened(path: Path) -> None:
        with Results(path, classifier, resume=True):
            pass

    return _target(opened)


def check_sums(model: Path) -> Target:
    """``EdgeClassifier`` beside a damaged SHA256SUMS."""
    from semdefect.edge import EdgeClassifier
    from semdefect.edge.digest import SUMS

    def beside(path: Path) -> None:
        copy = path.with_name(model.name)
        copy.write_bytes(model.read_bytes())
        (path.with_name(SUMS)).write_bytes(path.read_bytes())
        EdgeClassifier(copy)

    return _target(beside, named=False)


def open_members(_: Path) -> Target:
    """``open_image`` of each image that the archive held before the damage."""
    from benchmarks.fuzz_files import MEMBERS
    from semdefect.archive import open_image

    return _target(lambda path: [open_image(path / member) for member in MEMBERS])


TARGETS: dict[str, Callable[[Path], Target]] = {
    "image": classify,
    "score": score,
    "onnx": load_model,
    "manifest": read_manifest,
    "params": load_params,
    "weights": load_weights,
    "results": resume,
    "sums": check_sums,
    "archive": open_members,
}


def _target(function: Callable[[Path], object], named: bool = True) -> Target:
    from semdefect.errors import UserError

    def target(path: Path) -> str:
        try:
            function(path)
        except UserError as error:
            return _judged(str(error), path if named else None)
        return "answer"

    return target


def _judged(message: str, path: Path | None) -> str:
    """Whether a refusal is one sentence that names the file."""
    if "\n" in message or len(message) > 2000 or (path and str(path) not in message):
        return f"finding: not one sentence about the file: {message[:300]!r}"
    return "refused"


def _outcome(target: Target, path: Path) -> str:
    try:
        return target(path)
    except BaseException as error:  # whatever it is, it should not have been raised
        return f"finding: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _peak_mb() -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) / 1000 for line in text.splitlines() if line.startswith("VmHWM"))


def _queued() -> float:
    """Seconds in which this process's threads could have computed, had others left them a core."""
    seconds = 0.0
    for thread in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            seconds += int(thread.read_text(encoding="utf-8").split()[1]) / 1e9
    return seconds


def main() -> None:
    """Serve paths until standard input ends."""
    kind, model = sys.argv[1:]
    reports = os.fdopen(os.dup(1), "w", encoding="utf-8")  # commands print, and may close standard output
    target = TARGETS[kind](Path(model))
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (CEILING, CEILING))
    print(READY, file=reports, flush=True)
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        begun, used, queued = time.monotonic(), time.process_time(), _queued()
        outcome = _outcome(target, Path(line.rstrip("\n")))
        seconds = time.process_time() - used
        waited = time.monotonic() - begun - seconds - (_queued() - queued)
        report = {"outcome": outcome, "seconds": seconds, "peak_mb": _peak_mb(), "waited": max(waited, 0.0)}
        print(json.dumps(report), file=reports, flush=True)


if __name__ == "__main__":
    main()
