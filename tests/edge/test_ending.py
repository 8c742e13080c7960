import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_image

from semdefect.edge.ending import Ended, check, ended_by_signals

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_block(number, code):
    before = signal.getsignal(number)
    with pytest.raises(Ended) as ended, ended_by_signals():
        os.kill(os.getpid(), number)
        signal.pause()
    assert ended.value.code == code and signal.getsignal(number) == before


def test_a_signal_in_a_finalizer_is_not_lost(capfd):
    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()

    with ended_by_signals():
        check()
        Finalized()
        with pytest.raises(Ended):
            check()
    with ended_by_signals():
        check()
    assert capfd.readouterr().err == ""


def test_an_ignored_signal_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_while_it_imports_ends_as_later(tmp_path, number, code):
    (tmp_path / "numpy.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)")
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from semdefect.script import main; sys.exit(main())", "--version"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (code, "")


DECODING = """
import os, sys, time
import semdefect.edge.classifier as classifier
decode = classifier.open_gray
def slow(path):
    if "slow" not in str(path):
        return decode(path)
    time.sleep(0.5)  # until the row of the other image is there
    os.write(2, b"decoding\\n")
    time.sleep(60)
classifier.open_gray = slow
from semdefect.script import main
sys.exit(main())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_does_not_wait_for_images_that_threads_decode(tmp_path, model, number, code):
    write_image(tmp_path / "fast.png", 100)
    arguments = ["classify", str(tmp_path / "fast.png"), "slow.png", "--model", str(model)]
    process = subprocess.Popen(
        [sys.executable, "-c", DECODING, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline() == "decoding\n"
    begin = time.monotonic()
    process.send_signal(number)
    said, _ = process.communicate(timeout=50)
    assert process.returncode == code and time.monotonic() - begin < 20
    assert "fast.png" in said  # what was printed before is not lost
