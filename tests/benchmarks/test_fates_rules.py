"""The field's rules as they are held beside fates: which rows live, what counts against them."""

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from analysis.planted import Planted
from benchmarks.fates import rules
from benchmarks.fates.score import CALLED

D = 8


def _planted(fates):
    """Axis-aligned features, the last of which are the tuned model's own."""
    truth = pd.DataFrame({"feature": range(len(fates)), "fate": fates})
    eye = np.eye(D, dtype=np.float32)
    return Planted(eye[:1], truth, eye[: len(fates)])


def _trace(folder, base, tuned, n_fires):
    """A trace of as many inherited latents as the base has rows."""
    save_file({"base": base, "tuned": tuned}, folder / "directions.safetensors")
    fates = pd.DataFrame({"latent": range(len(base)), "n_fires": n_fires})
    fates.assign(tuned="tuned", origin="base").to_parquet(folder / "fates.parquet")
    return folder


def test_a_row_lives_by_its_firings_in_the_tuned_model(tmp_path):
    eye = np.eye(D, dtype=np.float32)
    base = eye[[0, 1, 6]]  # the third is idle in the base, and taken by what is new
    tuned = np.vstack([eye[[0, 1, 2]], eye[[3, 4]]])  # then two that were added
    trace = _trace(tmp_path, base, tuned, [900, 900, 0])
    planted = _planted(["preserved", "preserved", "novel_in_span", "novel_in_span", "re_encoded"])
    n_fires = np.array([900, 900, 500, 0, 500])  # an added one that never fires is nothing new
    found = rules._by_cosines(trace, n_fires, planted, eye[:2])["cosine 0.7"]
    assert (found["novel"], found["called"]) == (2, 1)
    assert found["false_rows"] == 0  # what has an old one's trigger is held against nobody
    assert found["preserved"] == 1.0
    assert found["of_its_words"] == pytest.approx((1.0 + 0.0) / 2)
    every = rules._by_cosines(trace, np.full(5, 500), planted, eye[:2])["cosine 0.7"]
    assert every["called"] == 2


def test_ours_is_told_over_the_words_of_each_rule():
    found = {"cosine 0.5": {}, "norms l1 and nu": {}}
    rules.beside(found, {fate: i / 10 for i, fate in enumerate(CALLED)})
    at = {fate: i / 10 for i, fate in enumerate(CALLED)}
    assert found["cosine 0.5"]["ours"] == pytest.approx((at["preserved"] + at["rotated"]) / 2)
    norms = (at["preserved"] + at["rotated"] + at["lost"]) / 3
    assert found["norms l1 and nu"]["ours"] == pytest.approx(norms, abs=1e-4)
