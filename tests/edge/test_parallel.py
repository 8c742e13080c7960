import gc
import threading
import time
import tracemalloc
from contextlib import closing
from itertools import count, islice
from queue import SimpleQueue

import pytest

from semdefect.edge.parallel import in_order


def test_results_are_in_order_however_long_each_takes():
    def slow_first(number):
        time.sleep(0.02 * (number % 3 == 0))
        return number**2

    assert list(in_order(slow_first, range(20), 3)) == [(number, number**2) for number in range(20)]


def test_a_few_items_are_read_ahead_and_no_more():
    read = []

    def source():
        for number in count():
            read.append(number)
            yield number

    with closing(in_order(str, source(), 2)) as results:
        assert [result for _, result in islice(results, 10)] == [str(number) for number in range(10)]
        time.sleep(0.1)
        assert len(read) <= 10 + 2 * 2 + 1


def test_a_result_does_not_wait_for_the_next_item():
    """As a program needs that writes a path and then waits for the answer."""
    questions = SimpleQueue()
    results = in_order(str.upper, iter(questions.get, None), 2)
    for word in ("a", "b"):
        questions.put(word)
        assert next(results) == (word, word.upper())
    questions.put(None)
    assert list(results) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_errors_come_in_their_place(workers):
    def source():
        yield from (1, 2)
        raise KeyError("source")

    results = in_order(lambda number: 1 // (2 - number), source(), workers)
    assert next(results) == (1, 1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    results = in_order(str, source(), workers)
    assert [next(results), next(results)] == [(1, "1"), (2, "2")]
    with pytest.raises(KeyError, match="source"):
        next(results)


def test_threads_end_with_the_generator():
    before = set(threading.enumerate())
    results = in_order(str, count(), 3)
    next(results)
    own = set(threading.enumerate()) - before  # an earlier test's threads may end meanwhile
    assert len(own) >= 2  # the reader and a worker
    results.close()
    for thread in own:
        thread.join(5)
    assert not any(thread.is_alive() for thread in own)


def test_memory_does_not_grow_with_the_number_of_items():
    peaks = []
    for items in (50, 500):
        gc.collect()
        tracemalloc.start()
        for _ in in_order(lambda _: bytes(100_000), range(items), 2):
            time.sleep(0.0005)  # the threads are faster than the one who takes the results
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 150_000
