"""What the page says of unstable latents, taken together."""

from analysis.artefact.summary import parse
from analysis.report import subspaces


def _interval(value, low, high, **null):
    return {"value": value, "low": low, "high": high, **null}


def test_a_trace_without_any_says_nothing(data):
    assert subspaces.table(parse(data)) is None


def test_each_tuned_model_has_a_row_and_a_word(data):
    arms = data["arms"]
    arms["assistant"]["fates"] = {"unstable": 7}
    arms["assistant"]["unstable_subspace"] = {
        "agreement": _interval(0.5, 0.4, 0.6, null_low=0.8),
        "gain": _interval(0.1, 0.05, 0.15, null_low=-0.2, null_high=0.2),
    }
    arms["piston"]["unstable_subspace"] = {
        "agreement": _interval(0.9, 0.85, 0.95, null_low=0.8),
        "gain": _interval(None, None, None, null_low=-0.2, null_high=0.2),
    }
    rows = subspaces.table(parse(data)).rows
    assert rows[0] == (
        "assistant", "7", "0.500 [0.400, 0.600]", "0.800", "0.100 [0.0500, 0.150]", "0.200",
        "changed",
    )  # fmt: skip
    assert (rows[1][0], rows[1][1], rows[1][-1]) == ("piston", "n/a", "n/a")
    arms["assistant"]["unstable_subspace"]["agreement"] = _interval(0.9, 0.85, 0.95, null_low=0.8)
    assert subspaces.table(parse(data)).rows[0][-1] == "preserved"
