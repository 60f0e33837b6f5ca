"""Hand-worked scores of called fates."""

import numpy as np
import pandas as pd
import pytest

from analysis.study.agreement import binned
from benchmarks.fates.score import (
    CALLED,
    calibration,
    matched,
    of_fates,
    of_firings,
    power,
    spread,
)


def test_features_are_found_one_to_one_and_only_if_close():
    rows = np.array([[0.0, 2.0, 0.0], [1.0, 0.1, 0.0], [0.7, 0.0, 0.7]])
    assert matched(rows, np.eye(3)).to_dict() == {0: 1, 1: 0}


def test_precision_recall_and_their_mean():
    table = pd.DataFrame(
        {
            "fate": ["lost", "lost", "rotated", "preserved"],
            "called": ["lost", "undetermined", "lost", "preserved"],
        }
    )
    found = of_fates(table)
    assert found["lost"] == {"precision": 0.5, "recall": 0.5, "f1": pytest.approx(0.5), "n": 2}
    assert found["preserved"]["f1"] == pytest.approx(1)
    assert found["rotated"]["f1"] == 0
    assert found["macro"]["f1"] == pytest.approx(1.5 / len(CALLED))


def test_an_interval_over_seeds():
    found = spread([0.4, 0.6])
    assert (found["mean"], found["high"] - found["mean"]) == (0.5, pytest.approx(1.2706, abs=1e-3))
    assert spread([0.5]) == {"mean": 0.5, "low": None, "high": None}


def test_false_discoveries_at_their_nominal_rates():
    table = pd.DataFrame(
        {
            "fate": ["lost", "preserved", "rotated", "preserved", "lost"],
            "q_value": [0.001, 0.04, 0.06, 0.5, np.nan],
        }
    )
    found = calibration(table)
    assert found["0.01"] == {"n": 1, "false": 0, "realised": 0}
    assert found["0.05"] == {"n": 2, "false": 1, "realised": 0.5}
    assert found["0.2"] == {"n": 3, "false": 1, "realised": pytest.approx(1 / 3, abs=1e-4)}


def test_power_by_size_and_by_firings():
    table = pd.DataFrame(
        {
            "fate": ["amplified"] * 6,
            "called": ["undetermined", "undetermined", "undetermined"] + ["amplified"] * 3,
            "size": [1.4, 1.5, 1.8, 1.9, 2.4, 2.5],
            "latent": [-1, 1, 2, 3, 4, 5],
            "n_fires": [10, 700, 20, 800, 30, 900],
        }
    )
    by_size = power(table)
    assert by_size["called"].tolist() == [0, 0.5, 1]
    assert by_size["often"].tolist() == [0, 1, 1]
    assert by_size["seldom"].tolist() == [0, 0, 1]
    by_firings = of_firings(table)
    assert by_firings["n"].tolist() == [3, 3]
    assert by_firings["recovered"].tolist() == pytest.approx([2 / 3, 1])
    assert by_firings["right"].tolist() == pytest.approx([1 / 3, 2 / 3])


def test_bins_of_norms():
    # shares of the base model in the norms: all, half, a third (difference 0.75), none
    share, cosine = np.array([1.0, 0.5, 0.5, 1 / 3, 0.0]), np.array([0.0, 0.95, 0.5, 1.0, 0.0])
    assert binned(share, cosine).tolist() == ["lost", "preserved", "rotated", "other", "novel"]
