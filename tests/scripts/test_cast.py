"""Which checkpoints of the nulls an organism's dictionary is continued on."""

import json
from pathlib import Path

import pytest

from sae.errors import ConfigError, InputError
from scripts import trace_personas
from scripts._cast import Cast, cast_of, continued_models, read_organism, trace_config


def organism(moved, ladders):
    def checkpoints(sizes):
        return [
            {"name": f"step-{i}", "change": {"activations": size}} for i, size in enumerate(sizes)
        ]

    arms = {
        name: {"role": "arm", "change": {"activations": size}, "checkpoints": checkpoints([size])}
        for name, size in moved.items()
    }
    nulls = {
        name: {"role": "null", "change": {"activations": 9}, "checkpoints": checkpoints(sizes)}
        for name, sizes in ladders.items()
    }
    return {"arms": {**arms, **nulls}}


def chosen(moved, **ladders):
    words = continued_models(organism(moved, ladders), Path("o"))
    names = [word.partition("=")[0] for word in words]
    assert names[: 1 + len(moved)] == ["base", *moved]
    return [name.replace("step-", "") for name in names[1 + len(moved) :]]


def test_the_least_null_that_moved_as_far_and_the_nearest_of_the_other():
    moved = {"x": 0.5, "y": 0.8}
    found = chosen(moved, a=[0.3, 0.6, 0.55, 0.7, 0.9], b=[0.2, 0.53, 0.56, 0.8, 1.0])
    assert found == ["a@2", "a@4", "b@2", "b@4"]


def test_one_checkpoint_serves_arms_of_like_size():
    assert chosen({"x": 0.5, "y": 0.51}, a=[0.4, 0.6], b=[0.3, 0.59]) == ["a@1", "b@1"]


def test_every_null_but_the_second_sets_thresholds():
    found = chosen({"x": 0.5, "y": 0.8}, a=[0.6, 0.9], b=[0.52, 0.85, 0.6], c=[0.82, 0.55])
    assert found == ["a@0", "a@1", "c@0", "c@1", "b@0", "b@1"]
    cast = cast_of(Cast(), organism({"x": 0.5}, {"a": [1], "b": [1], "c": [1]}), Path("o"))
    assert [each.partition("=")[0] for each in cast.null] == ["a", "c"]
    assert cast.held_back is not None and cast.held_back.startswith("b=")


def test_arms_within_a_fifth_share_a_checkpoint():
    assert chosen({"x": 0.5, "y": 0.55}, a=[0.52, 0.58], b=[0.6]) == ["a@1", "b@0"]
    assert chosen({"x": 0.5, "y": 0.59}, a=[0.52, 0.61], b=[0.6]) == ["a@0", "a@1", "b@0"]


def test_where_none_moved_as_far_the_nearest():
    assert chosen({"x": 2.0}, a=[0.4, 0.6], b=[0.7, 0.9]) == ["a@1", "b@0"]


def test_rounding_does_not_decide():
    assert chosen({"x": 0.5}, a=[0.5, 0.6], b=[0.6, 0.4]) == ["a@1", "b@0"]


def test_a_trace_measures_what_growing_measured(tiny_trace):
    grown = json.loads((tiny_trace / "organism" / "organism.json").read_text())["arms"]
    traced = json.loads((tiny_trace / "trace" / "nulls.json").read_text())["changes"]
    sizes = {
        f"{name}@{each['name']}": each["change"]
        for name, arm in grown.items()
        for each in arm["checkpoints"]
    }
    both = sizes.keys() & traced.keys()
    assert {name.partition("@")[0] for name in both} >= {"assistant", "continued_a", "continued_b"}
    for name in both:
        assert traced[name] == pytest.approx(sizes[name], rel=1e-4)


def test_an_arm_says_which_base_it_was_tuned_from():
    record = organism({"x": 0.5, "pole": 0.5, "fresh": 0.5}, {})
    for name, base in (("x", "base"), ("pole", "base_shuffled"), ("fresh", None)):
        record["arms"][name]["base"] = base
    door = trace_personas.Config(Path("d"), Path("c"), Path("t"), Path("o"))
    found = {each.name: each.start for each in trace_config(door, record).tuned}
    assert found == {"x": None, "pole": str(Path("o/models/base_shuffled")), "fresh": None}


def asked(**parts):
    config = trace_personas.Config(Path("d"), Path("c"), Path("o"), cast=Cast(**parts))
    return trace_config(config, {})


def test_a_pole_is_the_organisms_only_where_it_is_traced():
    record = organism({"x": 0.5, "y": 0.6}, {"a": [1], "b": [1]})
    record["arms"]["y"]["role"] = "pole"
    assert cast_of(Cast(), record, Path("o")).pole == "y"
    assert cast_of(Cast(tuned=("x=o/models/x",)), record, Path("o")).pole is None
    with pytest.raises(ConfigError, match="cast.pole z"):
        asked(base="b", tuned=("x=x",), pole="z")


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"tuned": ("x=m",), "null": ("y=./m",)}, "./m twice"),
        ({"tuned": ("x=m",), "null": ("y=n",), "held_back": "z=n"}, "n twice"),
        ({"tuned": ("x=m",), "null": ("x=n",)}, "two models named x"),
        ({"tuned": ("base=m",)}, "two models named base"),
        ({"tuned": ("x=b",)}, "b twice"),
    ],
)
def test_every_model_has_one_name_and_one_part(parts, found):
    with pytest.raises(ConfigError, match=found):
        asked(base="b", **parts)


@pytest.mark.parametrize("content", ["{}", "[]", '{"arms": []}', "[" * 10_000])
def test_what_is_no_organism_is_said_to_be_none(content, tmp_path):
    (tmp_path / "organism.json").write_text(content)
    with pytest.raises(InputError, match="an organism in"):
        read_organism(tmp_path)
