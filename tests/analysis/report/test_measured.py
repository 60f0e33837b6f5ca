import math

import pytest

from analysis.report.measured import Coordinate


@pytest.mark.parametrize(
    ("name", "low", "high", "null", "where"),
    [
        ("profile", 0.0, 0.02, (-math.inf, 0.03), "inside the null"),
        ("profile", 0.0, 0.04, (-math.inf, 0.03), "past the null, too little to count"),
        ("profile", 0.04, 0.045, (-math.inf, 0.03), "past the null, too little to count"),
        ("profile", 0.0, 0.06, (-math.inf, 0.03), "reaches out of it"),
        ("profile", 0.06, 0.2, (-math.inf, 0.03), "beyond the null"),
        ("profile", 0.1, 0.4, (-math.inf, 0.6), "inside the null, too far to be preserved"),
        ("direction", 0.95, 1.0, (0.9, math.inf), "inside the null"),
        ("direction", 0.5, 0.8, (0.4, math.inf), "inside the null, too far to be preserved"),
        ("gain", -0.3, 0.1, (-0.2, 0.2), "reaches out of it"),
        ("gain", 0.3, 0.5, (-0.2, 0.2), "beyond the null"),
        ("effect", 0.4, 0.9, None, "no null to compare with"),
    ],
)
def test_an_interval_lies_where_the_rule_says(name, low, high, null, where):
    assert Coordinate(name, (low + high) / 2, low, high, null).where == where


def test_what_was_not_measured_lies_nowhere():
    nan = math.nan
    assert Coordinate("effect", nan, nan, nan, (0.2, math.inf)).where == "not measured"
