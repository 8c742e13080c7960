"""What every stage does on the command line: help, one line for an error, and a quick end when it is stopped."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock
from joblib.externals.loky.process_executor import TerminatedWorkerError
from samples import ROOT

from semdefect.errors import UserError
from semdefect.stage import run_stage

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
PARAMS = str(ROOT / "params.yaml")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)


def call(work, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # its name is that of the script
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run_stage(work, "What the stage does.\n\n    dvc repro stage\n")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_help_shows_the_docstring_with_its_examples_as_written(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(None, monkeypatch, "--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "What the stage does.\n\n    dvc repro stage\n" in shown
    assert "--params" in shown


def test_the_work_gets_the_checked_parameters(monkeypatch):
    got = []
    call(got.append, monkeypatch, "--params", PARAMS)
    assert got[0].split.train == 0.7


def test_a_mistake_of_the_user_ends_with_one_line(monkeypatch):
    def work(params):
        raise UserError("data/real/crack is empty: add images")

    with pytest.raises(SystemExit) as end:
        call(work, monkeypatch, "--params", PARAMS)
    assert end.value.code == "error: data/real/crack is empty: add images"  # standard error, exit code 1


def test_a_full_disk_is_told_with_the_file(monkeypatch):
    def work(params):
        raise OSError(28, "No space left on device", "models/teacher/model.safetensors")

    with pytest.raises(SystemExit) as end:
        call(work, monkeypatch, "--params", PARAMS)
    assert end.value.code == "error: models/teacher/model.safetensors: No space left on device"


@pytest.mark.parametrize("allocate", [np.empty, torch.empty])
def test_memory_that_runs_out_is_told(monkeypatch, allocate):
    with pytest.raises(SystemExit) as end:
        call(lambda params: allocate(10**16), monkeypatch, "--params", PARAMS)
    assert end.value.code.startswith("error: memory ran out: close other programs; a training needs less with")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "CUDA out of memory. Tried to allocate",
        ),
        (RuntimeError("CUDNN_STATUS_ALLOC_FAILED"), "CUDNN_STATUS_ALLOC_FAILED"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_memory_that_runs_out_elsewhere_is_told(monkeypatch, error, told):
    def work(params):
        raise error

    with pytest.raises(SystemExit) as end:
        call(work, monkeypatch, "--params", PARAMS)
    assert end.value.code.startswith("error: memory ran out") and told in end.value.code


def test_other_faults_of_the_program_are_not_hidden(monkeypatch):
    def work(params):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        call(work, monkeypatch, "--params", PARAMS)


def test_a_killed_worker_is_told(monkeypatch):
    def work(params):
        raise TerminatedWorkerError

    with pytest.raises(SystemExit) as end:
        call(work, monkeypatch, "--params", PARAMS)
    assert "a worker process was killed" in end.value.code


def test_a_stage_runs_once_at_a_time_in_a_folder(monkeypatch, tmp_path):
    with FileLock(tmp_path / ".scratch/stage.lock"), pytest.raises(SystemExit) as end:
        call(lambda params: None, monkeypatch, "--params", PARAMS)
    assert end.value.code.startswith("error: stage is running in this folder")


@pytest.mark.parametrize(
    ("ranks", "first"),
    [
        ({}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, True),  # of another machine, with a folder of its own
        ({"RANK": "3", "LOCAL_RANK": "1"}, False),
        ({"OMPI_COMM_WORLD_LOCAL_RANK": "1"}, False),
        ({"PMI_RANK": "1"}, False),  # by srun, which does not tell which of this machine's it is
        ({"LOCAL_RANK": "-1", "RANK": ""}, True),  # accelerate's word for a single one
    ],
)
def test_the_first_process_of_a_machine_holds_the_lock(monkeypatch, tmp_path, ranks, first):
    for name, rank in ranks.items():
        monkeypatch.setenv(name, rank)
    with FileLock(tmp_path / ".scratch/stage.lock"):
        if first:
            with pytest.raises(SystemExit, match="stage is running in this folder"):
                call(lambda params: None, monkeypatch, "--params", PARAMS)
        else:
            call(lambda params: None, monkeypatch, "--params", PARAMS)


def test_what_a_killed_run_left_goes_first(monkeypatch, tmp_path):
    (tmp_path / "models/edge").mkdir(parents=True)
    left = tmp_path / f"models/edge/.student.{2**22 + 1}.part.onnx"  # above the largest number of a process
    left.write_text("half")
    call(lambda params: None, monkeypatch, "--params", PARAMS)
    assert not left.exists()


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch):
    def work(params):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(work, monkeypatch, "--params", PARAMS)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_says_what_it_does_reads_and_writes(stage):
    source = (ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8")
    docstring = source.split('"""')[1]
    assert f"dvc repro {stage}" in docstring
    assert "Reads " in docstring
    assert "writes " in docstring


def test_a_stage_outside_the_repository_ends_with_one_line_and_code_1(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "stages.split"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"error: params.yaml is not in {tmp_path}: run stages from the repository's root\n"
    assert done.stdout == ""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_stage_cleans_up_and_ends_at_once_with_code_130(tmp_path, stop):
    code = (
        "import time, pathlib\n"
        "from semdefect.atomic import replacing\n"
        "from semdefect.stage import run_stage\n"
        "def work(params):\n"
        "    with replacing(pathlib.Path('out.txt')) as temporary:\n"
        "        temporary.write_text('half')\n"
        "        print('working', flush=True)\n"
        "        while True:\n"
        # Short ones: a signal that arrives between two instructions and a long sleep is seen after the sleep only.
        "            time.sleep(0.05)\n"
        "run_stage(work, None)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--params", PARAMS],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "working\n"
    started = time.monotonic()
    process.send_signal(stop)
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - started < 5
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "dvc repro" in errors
    assert [path.name for path in tmp_path.iterdir()] == [".scratch"]


def started(folder, work, *arguments, output=subprocess.PIPE, errors=subprocess.PIPE):
    """A stage, begun as DVC does it, whose source is ``work``."""
    (folder / "steps").mkdir()
    (folder / "steps/__init__.py").write_text("from semdefect.startup import settle\nsettle()\n")
    (folder / "steps/one.py").write_text(
        f"import time\nfrom semdefect.stage import run_stage\n{work}\nif __name__ == '__main__':\n"
        f"    run_stage(work, None)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-m", "steps.one", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        stdout=output,
        stderr=errors,
        text=True,
        start_new_session=True,
    )


WITH_A_LONG_END = """
import atexit, gc
class Late:
    def __del__(self):
        print('in vain')
late, collects = Late(), gc.isenabled()
atexit.register(lambda: print('tidied'))
def work(params):
    print('collects', collects, gc.isenabled())
    WAY
"""


@pytest.mark.parametrize(
    ("way", "arguments", "code", "said"),
    [
        ("pass", ["--params", PARAMS], 0, "collects False True\n"),
        ("raise SystemExit('error: no')", ["--params", PARAMS], 1, "collects False True\n"),
        ("raise SystemExit(3)", ["--params", PARAMS], 3, "collects False True\n"),
        ("", ["--nonsense"], 2, ""),
    ],
)
def test_at_its_end_a_stage_does_what_it_must_and_no_more(tmp_path, way, arguments, code, said):
    process = started(tmp_path, WITH_A_LONG_END.replace("WAY", way), *arguments)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (code, f"{said}tidied\n")
    assert errors == {0: "", 1: "error: no\n", 3: ""}.get(code, errors)


def test_an_end_that_cannot_say_all_says_so(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    process = started(tmp_path, "def work(params):\n    print('a')\n", "--params", PARAMS, output=writer)
    os.close(writer)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 120 and "BrokenPipeError" in errors


def stopped(folder, work, whole_group=False, errors=subprocess.PIPE):
    """Exit code, lines on standard error and seconds of a stage that is stopped once it has printed ``working``.

    ``work`` is its source. Ctrl-C goes to the ``whole_group`` of its processes, as from a terminal; or SIGTERM to it.
    ``errors`` takes its standard error.
    """
    process = started(folder, work, "--params", PARAMS, errors=errors)
    assert process.stdout.readline() == "working\n"
    begun = time.monotonic()
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)  # ends when its workers have ended too, which hold the pipes
    return process.returncode, (said or "").strip().splitlines(), time.monotonic() - begun


DROPS_THE_SIGNAL = """
class Finalized:
    def __del__(self):
        print('working', flush=True)
        while True:
            time.sleep(0.05)
def work(params):
    Finalized()
    while True:
        time.sleep(0.05)
"""
#: Python calls no handler before the end of it.
IN_A_LONG_CALL = """
import hashlib
def work(params):
    print('working', flush=True)
    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 100_000_000)
"""
#: As joblib's pool, whose workers the end of a stage kills before the stage.
WHOSE_POOL_BREAKS = """
from concurrent.futures.process import BrokenProcessPool
def work(params):
    print('working', flush=True)
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        raise BrokenProcessPool
"""
#: As a library that takes the handler's exception, raised in a callback of C code, for damage to a file.
THAT_TAKES_IT_FOR_DAMAGE = """
from semdefect.errors import UserError
def work(params):
    print('working', flush=True)
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        raise UserError('one.png: is cut off or damaged')
"""
#: As scikit-learn's networks, which give what they have learned until then.
THAT_KEEPS_IT_TO_ITSELF = """
def work(params):
    print('working', flush=True)
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        pass
"""
IN_PYTHON = """
def work(params):
    print('working', flush=True)
    while True:
        time.sleep(0.05)
"""


@pytest.mark.parametrize(
    "work",
    [DROPS_THE_SIGNAL, IN_A_LONG_CALL, WHOSE_POOL_BREAKS, THAT_TAKES_IT_FOR_DAMAGE, THAT_KEEPS_IT_TO_ITSELF],
)
def test_a_stage_that_drops_the_signal_or_is_long_in_a_library_ends_all_the_same(tmp_path, work):
    code, errors, seconds = stopped(tmp_path, work)
    assert code == 130 and len(errors) == 1 and errors[0].startswith("stopped; run it again") and seconds < 4


@pytest.mark.parametrize("work", [DROPS_THE_SIGNAL, IN_PYTHON])
def test_a_stage_whose_errors_nobody_reads_ends_with_the_same_code(tmp_path, work):
    read, written = os.pipe()
    os.close(read)
    code, _, seconds = stopped(tmp_path, work, errors=written)
    os.close(written)
    assert code == 130 and seconds < 4


def test_a_forked_process_does_not_stop_its_parent(tmp_path):
    work = """
import os, signal
def work(params):
    child = os.fork()
    if not child:
        time.sleep(60)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    time.sleep(2)
    print('working', flush=True)
    time.sleep(60)
"""
    assert stopped(tmp_path, work)[0] == 130


@pytest.mark.parametrize("whole_group", [True, False])
def test_workers_leave_the_end_to_the_stage(tmp_path, whole_group):
    work = (
        "from joblib import delayed\n"
        "from semdefect.workers import in_processes\n"
        "def work(params):\n"
        "    for done in in_processes((delayed(time.sleep)(0.1) for _ in range(500)), 2):\n"
        "        print('working', flush=True)\n"
    )
    code, errors, seconds = stopped(tmp_path, work, whole_group)
    assert code == 130 and len(errors) == 1 and errors[0].startswith("stopped; run it again") and seconds < 4


def test_workers_end_with_a_stage_that_is_killed_and_not_with_a_thread_of_it(tmp_path):
    code = (
        "import os, threading, time\n"
        "from joblib import delayed\n"
        "from semdefect.workers import in_processes\n"
        "def work():\n"
        "    return sorted(set(in_processes((delayed(os.getpid)() for _ in range(8)), 2)))\n"
        "first = []\n"
        "thread = threading.Thread(target=lambda: first.extend(work()))\n"
        "thread.start()\n"
        "thread.join()\n"
        "time.sleep(1.5)\n"
        "assert set(work()) & set(first) and work()\n"
        "print(*first, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    workers = [psutil.Process(int(number)) for number in process.stdout.readline().split()]
    assert workers and all(worker.is_running() for worker in workers)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(workers, timeout=5)[1]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_stopped_while_it_imports_ends_with_one_line(tmp_path, stop):
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "semdefect").symlink_to(ROOT / "semdefect")
    (tmp_path / "joblib.py").write_text(
        "import time\nprint('working', flush=True)\nwhile True:\n    time.sleep(0.05)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.synthesize"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "working\n"
    process.send_signal(stop)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "\nstopped; nothing was begun\n"
