"""Work on a stream in threads: results come in order, and only a few items are in memory at a time."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield ``(item, function(item))`` in the order of ``items``, computed by ``workers`` threads.

    At most ``2 * workers`` items are worked on, waiting, or in the hands of the caller. ``items`` is read in a thread
    of its own: a result comes as soon as it is there, even while the source of the items is silent.

    Raises:
        Exception: whatever ``items`` or ``function`` raise, in its place of the order.
    """
    pool = ThreadPoolExecutor(workers)
    room = Semaphore(2 * workers)
    stopped = Event()
    started: SimpleQueue[tuple[Item, Future[Result]] | BaseException | None] = SimpleQueue()

    def feed() -> None:
        try:
            for item in items:
                room.acquire()
                if stopped.is_set():
                    return
                started.put((item, pool.submit(function, item)))
            started.put(None)
        except BaseException as error:  # raised again where the results are taken
            started.put(error)

    # A daemon: it may wait for a silent standard input for ever, which must not keep the program from ending.
    Thread(target=feed, daemon=True).start()
    try:
        while (entry := started.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            item, future = entry
            yield item, future.result()
            room.release()
    finally:
        stopped.set()
        room.release()  # wakes the feeder, so that it sees the end
        pool.shutdown(wait=False, cancel_futures=True)  # what is begun may take seconds, and nobody wants it
