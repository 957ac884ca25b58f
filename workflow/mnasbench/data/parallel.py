"""Work on many images spread over processes; results come back in order, and a dead worker is an error."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from mnasbench.cpus import usable_cpus
from mnasbench.errors import MnasbenchError
from mnasbench.processes import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")
# Images a message: long enough that passing messages costs nothing, short enough that no core idles at the end.
_CHUNK = 16


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None
) -> Iterator[Result]:
    """``function`` of each item, in order, by ``workers`` processes (None: one a usable CPU; 1: in this process).

    The first exception of a worker is raised here and the rest of the work dropped. A worker that dies (killed,
    out of memory) is a MnasbenchError.
    """
    workers = min(workers or usable_cpus(), max(1, len(items) // _CHUNK))
    if workers == 1:
        yield from map(function, items)
        return
    # fork: workers start in milliseconds and share the compiled resampler; nothing here runs threads before it.
    context = multiprocessing.get_context("fork")
    # Workers inherit the items with the fork; sent one by one they would cost this process a fortieth of their work.
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(function, items))
    try:
        for results in pool.map(_work_from, range(0, len(items), _CHUNK)):
            yield from results
    except BrokenProcessPool as error:
        raise MnasbenchError("a worker process died (killed, or out of memory); try fewer --workers") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_work: tuple[Callable[[Any], Any], Sequence[Any]]


def _work_from(first: int) -> list[Any]:
    function, items = _work
    return [function(item) for item in items[first : first + _CHUNK]]


def _begin(function: Callable[[Any], Any], items: Sequence[Any]) -> None:
    global _work
    _work = function, items
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not the parent's handler, which a fork inherits: it would have every worker tell of it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
