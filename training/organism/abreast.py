"""Models grown side by side, each in a process and on one thread of its own.

A step of a small model is hundreds of short operations, which two threads take hardly faster than
one does: two models at a time on two cores made 12.6 steps a second, one after the other 8.2.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from multiprocessing.process import parent_process
from typing import Any

import torch
import transformers

from sae.errors import InputError
from training.organism.language_model import LmStep, Tell

__all__ = ["Job", "abreast", "n_cores"]

SECONDS_BETWEEN_NEWS = 0.2


@dataclass(frozen=True)
class Job:
    """Something to do once others are done."""

    name: str
    """Under which its result is kept."""
    needs: tuple[str, ...]
    """Names of the jobs whose results it is given."""
    work: Callable[[Mapping[str, Any], Tell], Any]
    """From those results to its own; both, and itself, can be pickled."""


def n_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def abreast(jobs: Sequence[Job], tell: Tell, n_processes: int | None = None) -> dict[str, Any]:
    """Does jobs side by side, each as soon as those it needs are done.

    Every job is done by one thread, here or elsewhere, so results do not depend on how many
    processes there are.

    Args:
        jobs: Each after those it needs.
        tell: Hears of every step of every job, in this process.
        n_processes: How many at a time; as many as there are cores where None. One means this
            process.

    Returns:
        The results by name, in the order of the jobs.

    Raises:
        InputError: A process ended before its job was done.
        Exception: What a job raised; the others are ended.
    """
    n = min(len(jobs), n_cores() if n_processes is None else n_processes)
    found = _in_turn(jobs, tell) if n < 2 else _at_a_time(n, jobs, tell)
    return {job.name: found[job.name] for job in jobs}


def _given(job: Job, found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in job.needs}


def _in_turn(jobs: Sequence[Job], tell: Tell) -> dict[str, Any]:
    n_threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    try:
        for job in jobs:
            found[job.name] = job.work(_given(job, found), tell)
    finally:
        torch.set_num_threads(n_threads)
    return found


def _at_a_time(n: int, jobs: Sequence[Job], tell: Tell) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    news = context.SimpleQueue()
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(n, context, _settle, (news,))
    waiting, running, found = list(jobs), {}, {}
    try:
        while waiting or running:
            for job in [job for job in waiting if set(job.needs) <= set(found)]:
                waiting.remove(job)
                running[pool.submit(_do, job, _given(job, found))] = job.name
            done, _ = wait(running, SECONDS_BETWEEN_NEWS, FIRST_COMPLETED)
            while not news.empty():
                tell(*news.get())
            for each in done:
                found[running.pop(each)] = _result(each)
    finally:
        for process in set(multiprocessing.active_children()) - before if running else ():
            process.terminate()
        pool.shutdown(cancel_futures=True)
    return found


def _result(future: "Future[Any]") -> Any:
    try:
        return future.result()
    except BrokenProcessPool as error:
        do = "call grow under `if __name__ == '__main__':`, and see that there is memory for all"
        raise InputError("models grown side by side", "a process that ended", do) from error


_news: Any = None


def _settle(news: Any) -> None:
    """Prepares a process: one thread, ended by the first process alone, and with it."""
    global _news
    _news = news
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()  # the first process shows how far they are
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _do(job: Job, given: Mapping[str, Any]) -> Any:
    def tell(name: str, n_steps: int, step: LmStep) -> None:
        _news.put((name, n_steps, step))

    return job.work(given, tell)
