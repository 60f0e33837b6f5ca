"""Jobs side by side: their order, their results, their news, and their ends."""

import multiprocessing
import os
import time
from functools import partial

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info
from torch import nn

from sae.abreast import SMALL_BYTES, Job, abreast, how, in_turn
from sae.errors import ConfigError, InputError

PROCESSES = [1, 2]


def summed(name, common, given, tell):
    """One more than the sum of what it is given, told in two steps."""
    for step in (1, 2):
        tell(name, 2, step)
    return 1 + sum(given.values())


def threads(common, given, tell):
    return max([torch.get_num_threads(), *(each["num_threads"] for each in threadpool_info())])


def counted(common, given, tell):
    """What is in `common`, after adding one to it."""
    common += 1
    return common.sum()


def alone_in(folder, common, given, tell):
    (folder / "busy").touch(exist_ok=False)
    time.sleep(0.2)
    (folder / "busy").unlink()


def product(common, given, tell):
    x = torch.randn(500, 500, generator=torch.Generator().manual_seed(0))
    return np.linalg.svd(x.numpy() @ x.numpy(), compute_uv=False), (x @ x).sum().item()


def failing(common, given, tell):
    raise ConfigError("k=9", "two latents", "choose less")


def dying(common, given, tell):
    os._exit(3)


def lasting(common, given, tell):
    time.sleep(600)


def job(name, *needs):
    return Job(name, needs, partial(summed, name))


@pytest.mark.parametrize("n", PROCESSES)
def test_a_job_is_given_what_it_needs_and_nothing_else(n):
    jobs = [job("a"), job("b"), job("c", "a"), job("d", "a", "b", "c")]
    heard = []
    found = abreast(jobs, lambda name, _, step: heard.append((name, step)), n_processes=n)
    assert found == {"a": 1, "b": 1, "c": 2, "d": 5}
    assert list(found) == ["a", "b", "c", "d"]
    assert sorted(heard) == [(name, step) for name in "abcd" for step in (1, 2)]
    assert heard.index(("d", 1)) > heard.index(("c", 2))


@pytest.mark.parametrize("n", PROCESSES)
def test_every_job_has_one_thread(n):
    before = torch.get_num_threads()
    jobs = [Job(name, (), threads) for name in "ab"]
    assert abreast(jobs, lambda *_: None, n_processes=n) == {"a": 1, "b": 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("n", PROCESSES)
def test_what_a_job_raises_is_raised(n):
    with pytest.raises(ConfigError, match="asked: k=9; found: two latents; do: choose less"):
        abreast([Job("a", (), failing), Job("b", (), threads)], lambda *_: None, n_processes=n)


def test_a_failure_ends_the_others_at_once():
    before, start = set(multiprocessing.active_children()), time.monotonic()
    with pytest.raises(ConfigError):
        abreast([Job("a", (), lasting), Job("b", (), failing)], lambda *_: None, n_processes=2)
    assert time.monotonic() - start < 120
    assert set(multiprocessing.active_children()) == before


def test_a_process_that_ends_is_said():
    with pytest.raises(InputError, match="a process that ended; do: start it under"):
        abreast([Job("a", (), dying), Job("b", (), threads)], lambda *_: None, n_processes=2)


def test_results_do_not_depend_on_processes_and_each_has_what_is_common_to_itself():
    common, made = np.zeros(1000), []
    jobs = [Job(name, (), product) for name in "abc"]
    jobs += [Job(str(i), (), counted) for i in range(6)]
    beside = abreast(jobs, lambda *_: None, lambda: made.append(1) or common, 2)
    assert made == [1]
    assert not common.any()
    alone = abreast(jobs[:3], lambda *_: None, n_processes=1)
    for name in "abc":
        assert np.array_equal(alone[name][0], beside[name][0])
        assert alone[name][1] == beside[name][1]
    totals = [beside[str(i)] for i in range(6)]
    assert totals.count(1000) in (1, 2)
    assert max(totals) >= 3000


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_no_more_jobs_at_a_time_than_there_is_room_for(monkeypatch, tmp_path):
    monkeypatch.setattr("sae.abreast.ROOM_BYTES", 100)
    jobs = [Job(str(i), (), partial(alone_in, tmp_path)) for i in range(4)]
    abreast(jobs, lambda *_: None, lambda: np.zeros(1000))
    assert torch.get_num_threads() == 2


def test_small_models_on_the_cpu_go_side_by_side():
    assert how(nn.Linear(100, 100)) is abreast
    assert how(nn.Linear(SMALL_BYTES // 4, 1, bias=False, device="meta")) is in_turn
    with torch.device("meta"):
        assert how(nn.Linear(10, 10)) is in_turn
