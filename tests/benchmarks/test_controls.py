"""What controls leave alone and what they mix, without a fit."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.bench_controls import dealt, onto
from benchmarks.study import controls


def test_labels_are_dealt_by_speaker_and_none_is_lost():
    rng = np.random.default_rng(0)
    rows = [
        (f"d{i}", role, speaker, persona)
        for i in range(40)
        for role, speaker, persona in (
            ("character", "ann", rng.choice(["mentor", "spy"])),
            ("character", "bob", rng.choice(["poet", "spy"])),
            ("narrator", None, "none"),
        )
        for _ in range(3)
    ]
    tokens = pd.DataFrame(rows, columns=["doc", "role", "speaker", "persona"])
    mixed = dealt(tokens, 0)
    said = mixed.groupby(["doc", "speaker"])["persona"].nunique()
    assert (said == 1).all()
    assert mixed["persona"].value_counts().to_dict() == tokens["persona"].value_counts().to_dict()
    assert (mixed.loc[mixed["role"] == "narrator", "persona"] == "none").all()
    assert (mixed["persona"] != tokens["persona"]).mean() > 0.2


def test_a_linear_map_is_found_again():
    rng = np.random.default_rng(1)
    x, turn = rng.normal(size=(200, 5)), rng.normal(size=(5, 5))
    y = x @ turn + 3
    given = [torch.from_numpy(each.astype(np.float32)) for each in (x, y)]
    held = rng.normal(size=(20, 5)).astype(np.float32)
    np.testing.assert_allclose(onto(given[0], given[1], held), held @ turn + 3, atol=1e-3)


@pytest.fixture
def homes(tmp_path):
    """Three organisms, as far as anybody looks."""
    homes = {name: tmp_path / name / "organism" for name in "abc"}
    for home in homes.values():
        home.mkdir(parents=True)
        (home / "organism.json").write_text(f'{{"seed": "{home.parent.name}"}}')
    return homes


@pytest.fixture
def asked(monkeypatch):
    """What controls were made of, in turn; they are not made."""
    asked = []

    def found(home, other, n_tokens, seed):
        asked.append((home.parent.name, other.parent.name, n_tokens, seed))
        row = {"fvu": 0.1, "personas": len(asked), "latent_auroc": 0.8, "probe_auroc": float("nan")}
        return {"fitted on the base": row}

    monkeypatch.setattr(controls, "controls", found)
    return asked


def test_controls_of_bases_are_kept_and_shown_with_their_interval(tmp_path, homes, asked):
    kept = controls.controlled(homes, 7)
    assert asked == [("a", "b", 7, 0), ("b", "c", 7, 0), ("c", "a", 7, 0)]
    assert controls.controlled(homes, 7)["c"] == kept["c"] and len(asked) == 3
    assert json.loads((tmp_path / "a" / "controls" / "controls.json").read_text()) == kept["a"]
    (row,) = controls.table(kept).rows
    # 1, 2 and 3: mean 2, and Student's t of two degrees of freedom, 4.303 / sqrt(3)
    assert row == (
        "fitted on the base", "0.100 [0.100, 0.100]", "2.000 [-0.484, 4.484]",
        "0.800 [0.800, 0.800]", "n/a",
    )  # fmt: skip


def test_controls_are_anew_where_anything_they_are_made_of_differs(homes, asked):
    controls.controlled(homes, 7)
    (homes["b"] / "organism.json").write_text("{}")  # grown anew: mapped to a as well
    os.utime(homes["b"] / "organism.json", (1, 1))
    controls.controlled(homes, 7)
    assert [each[:2] for each in asked[3:]] == [("a", "b"), ("b", "c")]
    controls.controlled({name: homes[name] for name in "ab"}, 7)
    assert [each[:2] for each in asked[5:]] == [("b", "a")]
    controls.controlled({name: homes[name] for name in "ab"}, 8)
    assert [each[:3] for each in asked[6:]] == [("a", "b", 8), ("b", "a", 8)]
