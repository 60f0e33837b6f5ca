"""Hand-worked scores of called fates."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.fates.score import CALLED, matched, of_fates, spread


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
