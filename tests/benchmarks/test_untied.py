"""What two worlds show together, by hand."""

import pytest

from analysis.artefact.schema import Measured
from benchmarks import bench_untied
from benchmarks.bench_study import FIRST_SEED
from benchmarks.bench_untied import ARMS, over_bases, untied
from training.organism.config import GrowConfig


def test_only_the_world_and_the_arms_differ():
    grown = untied(GrowConfig(seed=3))
    assert not grown.world.tied and grown.arms == ARMS and GrowConfig().world.tied
    assert (grown.seed, grown.base, grown.tune) == (3, GrowConfig().base, GrowConfig().tune)


def test_worlds_are_compared_base_by_base():
    """Differences of .1, .2 and .3: .2, and Student's 4.303 times .1 over the root of three."""
    values = {"tied": (0.5, 0.4, 0.6), "untied": (0.4, 0.2, 0.3)}
    found = {
        world: {str(i): Measured(value, 0.0, 1.0) for i, value in enumerate(each)}
        for world, each in values.items()
    }
    together = over_bases(found)
    assert together["difference"] == pytest.approx([0.2, 0.2 - 0.2484, 0.2 + 0.2484], abs=1e-4)
    assert together["tied"][0] == pytest.approx(0.5)
    alone = {world: {"0": each["0"]} for world, each in found.items()}
    assert over_bases(alone)["difference"] == pytest.approx([0.1])


def test_organisms_of_the_study_are_looked_for_before_any_is_grown(tmp_path, monkeypatch):
    here = tmp_path / f"base-{FIRST_SEED}" / "organism"
    here.mkdir(parents=True)
    (here / "organism.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["bench_untied", "--home", str(tmp_path), "--bases", "2"])
    monkeypatch.setattr(bench_untied.grow_organism, "main", lambda _: pytest.fail("grown"))
    with pytest.raises(SystemExit) as ended:
        bench_untied.main()
    missing = tmp_path / f"base-{FIRST_SEED + 1}" / "organism"
    assert str(ended.value).startswith(f"bench_untied: no finished organism in {missing}; grow ")
    assert str(here) not in str(ended.value)
