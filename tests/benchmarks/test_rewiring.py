"""What is counted of latents that were turned and of those that lie apart, by hand."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.bench_rewiring import counted


def test_calls_are_counted_by_angle_and_apart():
    fates = pd.DataFrame(
        {
            "tuned": "rewired_0",
            "origin": ["base"] * 7 + ["tuned"],
            "latent": [0, 1, 2, 3, 4, 5, 6, 6],
            "fate": ["re_wired", "preserved", "re_wired", "preserved"] + ["re_wired"] * 4,
            "effect": [0.1, 0.9, 0.5, 0.9, 0.8, 0.8, np.nan, 0.8],
            "q_value": [0.01, 0.9, 0.02, 0.9, 0.01, 0.01, 0.01, 0.01],
            "p_value": [0.001, 0.8, 0.002, 0.7, 0.01, 0.01, 0.01, 0.01],
        }
    )
    truth = pd.DataFrame(
        {
            "tuned": "rewired_0",
            "latent": range(7),
            "inside": [1.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.0],
            "angle": [90.0, 15.0, np.nan, np.nan, np.nan, np.nan, np.nan],
        }
    )
    found = counted(fates, truth)
    assert found["turned"]["90"] == {"n": 1, "re_wired": 1, "preserved": 0, "effect": 0.1}
    assert found["turned"]["15"]["preserved"] == 1 and found["turned"]["30"]["n"] == 0
    # 2, 3 and 4 lie apart; 5 was half turned, 6 has no effect, and one is of the tuned model alone
    assert (found["apart"]["n"], found["apart"]["re_wired"], found["apart"]["changed"]) == (3, 2, 2)
    assert found["apart"]["preserved"] == pytest.approx(1 / 3)
    assert found["apart"]["p_below_05"] == pytest.approx(2 / 3)
