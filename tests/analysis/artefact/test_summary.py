import json

import numpy as np
import pandas as pd
import pytest

from analysis.artefact import summary as summaries
from analysis.artefact.summary import Measured, Summary, parse, read, write
from sae.errors import InputError


def test_what_is_written_is_read_back(data, tmp_path):
    path = write(tmp_path, data)
    assert path == tmp_path / "summary.json"
    found = read(tmp_path)
    assert found == parse(data)
    assert found.arms["assistant"].in_span_share.null_high == 0.18
    assert write(tmp_path / "again", found).parent.name == "again"
    assert read(tmp_path / "again") == found
    assert list(tmp_path.glob("*.tmp")) == []


def test_a_summary_without_controls_has_none(data):
    assert parse(data).controls["same_weights"].error_rates["continued/step-100"]["all"].n == 500
    del data["controls"]
    assert parse(data).controls == {}


def test_more_keys_are_kept_in_the_file(data, tmp_path):
    write(tmp_path, {**data, "own": {"more": 1}})
    assert json.loads((tmp_path / "summary.json").read_text())["own"] == {"more": 1}


def test_not_a_number_is_written_as_null_and_numpy_as_plain(data, tmp_path):
    data["arms"]["assistant"]["in_span_share"] = {"value": np.float64("nan"), "low": None}
    data["dictionary"]["l0"] = np.float32(8.5)
    write(tmp_path, data)
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text
    assert read(tmp_path).arms["assistant"].in_span_share.value is None
    assert read(tmp_path).dictionary.l0 == 8.5


def spoil(data, path, value):
    for key in path[:-1]:
        data = data[key]
    if value is KeyError:
        del data[path[-1]]
    else:
        data[path[-1]] = value


BAD = [
    (("schema",), "other/1", "schema"),
    (("dictionary",), KeyError, "dictionary"),
    (("dictionary", "fvu"), KeyError, "dictionary.fvu"),
    (("dictionary", "dead_fraction"), 1.5, "dictionary.dead_fraction"),
    (("dictionary", "l0"), "many", "dictionary.l0"),
    (("personas", "pirate"), 3, "personas.pirate"),
    (("personas", "pirate", "latent"), 1.5, "personas.pirate.latent"),
    (("personas", "pirate", "auroc_low"), 0.99, "personas.pirate.auroc_low"),
    (("personas", "pirate", "confirmed"), 1, "personas.pirate.confirmed"),
    (("arms", "piston", "in_span_share", "value"), 1.2, "arms.piston.in_span_share.value"),
    (("arms", "piston", "in_span_share", "low"), 0.5, "arms.piston.in_span_share.low"),
    (("arms", "piston", "in_span_share", "high"), 0.0, "arms.piston.in_span_share.value"),
    (("arms", "piston", "fates"), {"vanished": 1}, "arms.piston.fates.vanished"),
    (("arms", "piston", "fates"), {"lost": -1}, "arms.piston.fates.lost"),
    (("arms", "piston", "kind"), "leg", "arms.piston.kind"),
    (("arms", "piston", "size", "kl"), -0.1, "arms.piston.size.kl"),
    (("reuse_index", "piston"), 0.3, "reuse_index.piston"),
    (("span", 0, "pair"), ["assistant"], "span.0.pair"),
    (("span", 0, "excludes_zero"), False, "span.0.excludes_zero"),
    (("error_rates", "continued_b", "all", "n"), KeyError, "error_rates.continued_b.all.n"),
    (("controls", "same_weights", "matched"), KeyError, "controls.same_weights.matched"),
    (("controls", "same_weights"), [], "controls.same_weights"),
    (
        (
            "controls",
            "same_weights",
            "error_rates",
            "continued/step-100",
            "all",
            "changed",
            "value",
        ),
        1.5,
        "controls.same_weights.error_rates.continued/step-100.all.changed.value",
    ),
    (("contexts", "story", "n_tokens"), KeyError, "contexts.story.n_tokens"),
    (("contexts", "story", "probe", "high"), 1.2, "contexts.story.probe.high"),
    (("contexts", "story", "probe", "low"), 0.95, "contexts.story.probe.low"),
    (("notes",), "one", "notes"),
    (("seconds", "fit"), -1, "seconds.fit"),
    (("power", "assistant", "gating"), 2, "power.assistant.gating"),
    (("dictionary", "l0"), 10**400, "dictionary.l0"),
    (("personas", "pirate", "latent"), 2**63, "personas.pirate.latent"),
    (("span", 0, "checkpoints"), [1, 2], "span.0.checkpoints.0"),
    (("reuse_index", "nobody"), {"value": 0.5}, "reuse_index.nobody"),
]


@pytest.mark.parametrize(("path", "value", "key"), BAD, ids=[key for _, _, key in BAD])
def test_a_bad_key_is_named_and_nothing_is_written(data, tmp_path, path, value, key):
    spoil(data, path, value)
    with pytest.raises(InputError) as caught:
        if key == "schema":
            parse(data)
        else:
            write(tmp_path, data)
    assert f"'{key}'" in caught.value.asked
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_broken_file_is_an_input_error(tmp_path, content):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary\.json"):
        read(tmp_path)


def test_no_number_is_infinite(data):
    data["base"]["ce"] = float("inf")
    with pytest.raises(InputError, match=r"key 'base\.ce'"):
        parse(data)


def test_why_an_arm_gives_no_verdict(data):
    data["arms"]["format_only"]["null"] = None
    found = {name: arm.no_verdict for name, arm in parse(data).arms.items()}
    assert found["assistant"] is None
    assert found["piston"] == "did not learn its task"
    assert found["format_only"] == "no null moved as far"
    assert (found["scratch"], found["continued"]) == ("pole", "null")


def test_error_rates_and_power_come_from_the_statistics_tables():
    calls = [
        ("persona", "changed", 16, 1, 0.0625, 0.0016, 0.3),
        ("persona", "preserved", 16, 12, 0.75, 0.48, 0.93),
        ("all", "changed", 0, 0, np.nan, 0.0, 1.0),
    ]
    columns = ["family", "call", "n", "n_called", "share", "share_low", "share_high"]
    found = summaries.error_rates_of(pd.DataFrame(calls, columns=columns))
    assert found["persona"].changed == Measured(0.0625, 0.0016, 0.3)
    assert found["all"].n == 0
    assert found["all"].changed.value is None
    bins = pd.DataFrame(
        {
            "fire_rate_from": [0.0, 0.1],
            "n_latents": [80, 75],
            "direction": [0.9, 0.95],
            "gain_low": [-0.3, -0.1],
            "gain_high": [0.2, 0.1],
            "gating": [0.4, 0.2],
        }
    )
    power = summaries.power_of(bins, 0.04)
    assert (power.n_null, power.direction, power.gain, power.gating) == (75, 0.9, 0.3, 0.4)


def test_a_summary_can_be_assembled_from_parts(tmp_path):
    made = Summary(
        dictionary=summaries.Dictionary(0.2, 8.0, None, 0.0),
        personas={},
        arms={"assistant": summaries.Arm(in_span_share=Measured(0.4, 0.3, 0.5))},
    )
    write(tmp_path, made)
    assert read(tmp_path) == made
