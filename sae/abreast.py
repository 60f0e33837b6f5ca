"""Jobs side by side, each in a process and on one thread of its own.

A step of a small model is hundreds of short operations, which two threads take hardly faster than
one does: two models at a time on two cores made 12.6 steps a second, one after the other 8.2. A
large model keeps every thread busy, and two of them may not fit into memory: `how` says which is
which.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import parent_process
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from threadpoolctl import threadpool_limits
from torch import nn

from sae.errors import InputError
from sae.parcels import lay_down, pick_up

__all__ = ["SMALL_BYTES", "Common", "Job", "Tell", "abreast", "how", "in_turn", "warm_up"]

Tell = Callable[..., None]
"""Called by a job with whatever there is to say, and heard in the first process."""
Common = Callable[[], Any]
"""Makes what jobs share; called once, and its result can be pickled."""
SMALL_BYTES = 2**26
"""Most bytes of the weights of a small model."""
ROOM_BYTES = 2**31
"""What all jobs at hand may need beside the libraries, if each needs as much as they share."""
SECONDS_BETWEEN_NEWS = 0.2
FORKS = "forkserver" in multiprocessing.get_all_start_methods()
OWN = ("sae.", "training.", "analysis.", "scripts.")


@dataclass(frozen=True)
class Job:
    """Something to do once others are done."""

    name: str
    """Under which its result is kept."""
    needs: tuple[str, ...]
    """Names of the jobs whose results it is given."""
    work: Callable[[Any, Mapping[str, Any], Tell], Any]
    """From what all jobs share and those results to its own; all of these can be pickled."""


def _nothing() -> None:
    return None


def how(module: nn.Module) -> Callable[[Sequence[Job], Tell, Common], dict[str, Any]]:
    """In which way jobs of such a model are done: `abreast` or `in_turn`.

    Side by side where the model computes on the CPU and its weights have no more than `SMALL_BYTES`
    (16 million numbers of four bytes); one after the other, with all threads and with one model in
    memory beside the base, where it is larger or on a GPU. The model alone decides: which of the
    two it is can change the last bits of a result, and cores and jobs must not.
    """
    weights = list(module.parameters())
    is_small = sum(each.nbytes for each in weights) <= SMALL_BYTES
    return abreast if is_small and {each.device.type for each in weights} <= {"cpu"} else in_turn


def in_turn(jobs: Sequence[Job], tell: Tell, common: Common = _nothing) -> dict[str, Any]:
    """Does jobs one after the other in this process, with all its threads.

    Args:
        jobs: Each after those it needs.
        tell: Hears what the jobs say.
        common: Makes what every job is given.

    Returns:
        The results by name, in the order of the jobs.

    Raises:
        Exception: What a job raised.
    """
    shared, found = common(), {}
    for job in jobs:
        found[job.name] = job.work(shared, _given(job, found), tell)
    return found


def abreast(
    jobs: Sequence[Job], tell: Tell, common: Common = _nothing, n_processes: int | None = None
) -> dict[str, Any]:
    """Does jobs side by side, each as soon as those it needs are done.

    Every job, and what is common, is done by one thread, here or elsewhere, so results do not
    depend on how many processes there are.

    Args:
        jobs: Each after those it needs.
        tell: Hears what the jobs say, in this process.
        common: Makes what every job is given, here and while processes import; each of them gets it
            once, and reads arrays in it from the same pages.
        n_processes: How many at a time. None: as many as torch has threads, which are the cores
            unless OMP_NUM_THREADS says otherwise, and no more than `ROOM_BYTES` have room for. One
            means this process.

    Returns:
        The results by name, in the order of the jobs.

    Raises:
        InputError: A process ended before its job was done.
        Exception: What a job raised; the others are ended.
    """
    n = min(len(jobs), n_processes or torch.get_num_threads())
    if n < 2:
        with _one_thread():
            return in_turn(jobs, tell, common)
    hidden = TemporaryDirectory(prefix="forelimb-", ignore_cleanup_errors=True)
    warm_up()
    with hidden as folder:
        with _one_thread():
            n_bytes = lay_down(common(), Path(folder) / "common")
        n = n if n_processes else max(1, min(n, ROOM_BYTES // n_bytes))
        with _processes(n, Path(folder)) as pool:
            found = pool.all_done(jobs, tell)
    return {job.name: found[job.name] for job in jobs}


def warm_up() -> None:
    """Begins a process that imports what this one did; those for jobs are copies of it.

    It stays as long as this one, so that libraries are imported once, and where this is called
    early, beside work of one thread.
    """
    if not FORKS:
        return
    multiprocessing.set_forkserver_preload([name for name in sys.modules if name.startswith(OWN)])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a terminal's is not for it
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _given(job: Job, found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in job.needs}


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, and for numpy's and scipy's products."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)


class _Pool:
    """Processes that were told to start, and what they say."""

    def __init__(self, n: int, folder: Path) -> None:
        context = multiprocessing.get_context("forkserver" if FORKS else "spawn")
        self.n, self.folder, self.news = n, folder, context.SimpleQueue()
        self.is_done, self.before = False, set(multiprocessing.active_children())
        told = self.news, folder, sys.orig_argv
        self.executor = ProcessPoolExecutor(n, context, _settle, told)

    def all_done(self, jobs: Sequence[Job], tell: Tell) -> dict[str, Any]:
        """Does jobs, no more at a time than there are processes."""
        waiting, running, found, numbers = list(jobs), {}, {}, count()
        while waiting or running:
            ready = [job for job in waiting if set(job.needs) <= set(found)]
            for job in ready[: self.n - len(running)]:
                waiting.remove(job)
                given, path = _given(job, found), self.folder / str(next(numbers))
                running[self.executor.submit(_do, job, given, path)] = job.name
            done, _ = wait(running, SECONDS_BETWEEN_NEWS, FIRST_COMPLETED)
            while not self.news.empty():
                tell(*self.news.get())
            for each in done:
                found[running.pop(each)] = pick_up(each.result())
                each.result().unlink()
        self.is_done = True
        return found

    def end(self) -> None:
        """Ends all processes, at once where something went wrong."""
        started = set(multiprocessing.active_children()) - self.before
        for process in () if self.is_done else started:
            process.terminate()
        self.executor.shutdown(cancel_futures=True)


@contextmanager
def _processes(n: int, folder: Path) -> Iterator[_Pool]:
    pool = _Pool(n, folder)
    try:
        yield pool
    except BrokenProcessPool as error:
        do = "start it under `if __name__ == '__main__':`, and see that there is memory for all"
        raise InputError("models side by side", "a process that ended", do) from error
    finally:
        pool.end()


_news: Any = None
_folder: Path


def _settle(news: Any, folder: Path, command: list[str]) -> None:
    """Prepares a process, ended by the first process alone, and with it."""
    global _news, _folder
    _news, _folder = news, folder
    sys.orig_argv = command  # what provenance names
    transformers.utils.logging.disable_progress_bar()  # the first process shows how far they are
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _do(job: Job, given: Mapping[str, Any], path: Path) -> Path:
    def tell(*news: Any) -> None:
        _news.put(news)

    with _one_thread():
        lay_down(job.work(_common(), given, tell), path)
    return path


@cache
def _common() -> Any:
    return pick_up(_folder / "common")
