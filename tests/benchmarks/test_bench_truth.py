"""The benchmark itself, as far as it needs no peer."""

import json
import sys

import numpy as np
import pytest

from benchmarks import bench_truth
from benchmarks.truth import worker
from benchmarks.truth.world import World, WorldConfig

TINY = ["--n-features", "48", "--d-in", "16", "--l0", "2", "--n-roots", "3", "--d-sae", "64"]
TINY += ["--k", "2", "--batch", "128", "--n-tokens", "4096", "--n-held-out", "2048"]
TINY += ["--dead-after-tokens", "1024", "--seeds", "2", "--jobs", "2"]


def test_a_tiny_run_leaves_a_row_with_every_number(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results.jsonl"
    only = ["--only", "forelimb/default"]
    monkeypatch.setattr(sys, "argv", ["bench_truth", *TINY, *only, "--results", str(out)])
    bench_truth.main()
    row = json.loads(out.read_text())
    assert set(row["scores"]) == {"forelimb/default", "null/random", "truth/simple"}
    assert row["scores"]["truth/simple"]["matched_share"]["mean"] == 1
    assert len(row["scores"]["forelimb/default"]["f1"]["each"]) == 2
    assert len(row["scores"]["forelimb/default"]["agreement"]["each"]) == 1
    assert row["settings"]["forelimb/default"]["train"]["n_tokens"] == 4096
    assert row["settings"]["forelimb/default"]["prefixes"] == [4, 16]
    assert "no verdict" in capsys.readouterr().out


def test_directions_without_a_fit_fire_as_often_as_asked():
    world = World(WorldConfig(n_features=60, d_in=32, l0=2.0, n_roots=3, group_size=5))
    x = world.chunk("held-out", 0)[0]
    found = bench_truth.simple(world.directions, x, k=3)
    assert found.z.shape == (4096, 60)
    assert found.z.nnz / 4096 == pytest.approx(3, rel=0.1)
    pre = x @ world.directions.T
    assert np.allclose(found.z.toarray()[found.z.toarray() > 0], pre[found.z.toarray() > 0])


def test_batches_are_all_rows_once_in_an_order_of_the_seed(tmp_path):
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    np.save(tmp_path / "x.npy", x)

    def first_round(seed: int) -> list[list[float]]:
        data = str(tmp_path / "x.npy")
        asked = worker.Asked("topk", 2, 4, 1, 3, (), 9, None, seed, data, data, "")
        assert asked.n_tokens == 9
        return [next(stream).ravel().tolist() for stream in [asked.batches()] for _ in range(3)]

    assert sorted(sum(first_round(0), [])) == x[:9].ravel().tolist()
    assert first_round(0) == first_round(0)
    assert len({str(first_round(seed)) for seed in range(6)}) > 1
