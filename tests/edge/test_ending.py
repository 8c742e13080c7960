import os
import signal

import pytest

from semdefect.edge.ending import Ended, check, ended_by_signals


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
