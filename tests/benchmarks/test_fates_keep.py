"""Caches that were kept are used again for their own world alone."""

import pytest

from analysis.planted import PairsConfig
from benchmarks.bench_fates import require_world


def test_caches_of_another_world_are_refused(tmp_path):
    world, folder = PairsConfig(64, 16, 40, seed=3), tmp_path / "3"
    for _ in range(2):
        require_world(folder, world)
        (folder / "caches").mkdir(exist_ok=True)
    with pytest.raises(SystemExit) as ended:
        require_world(folder, PairsConfig(64, 32, 48, seed=3))
    found = "caches of a world of another d_in, n_documents; choose another folder with --keep"
    assert str(ended.value) == f"bench_fates: {folder} holds {found}"
    require_world(folder, world)
    (folder / "world.json").unlink()
    with pytest.raises(SystemExit, match="holds caches of an unknown world; choose"):
        require_world(folder, world)
