"""What the page and the terminal say of controls, and of nulls that are not there."""

import pytest

from analysis import report
from analysis.artefact.summary import parse
from analysis.report import controls


def _rate(n, changed, preserved):
    names = ("value", "low", "high")
    shares = {"changed": changed, "preserved": preserved}
    return {"n": n} | {key: dict(zip(names, each, strict=True)) for key, each in shares.items()}


def test_a_control_without_a_false_call_is_one_clear_line(data):
    del data["controls"]["same_weights"]["error_rates"]["continued/step-100"]["persona"]
    assert list(controls.sentences(parse(data))) == [
        "same_weights: 0 of 500 latents called changed (upper limit 0.735 %), 97.0 % preserved"
        " (null continued/step-100)"
    ]


def test_false_calls_are_counted_by_null_and_persona_latents_apart(data):
    everything = _rate(500, (0.45, 0.4058, 0.4948), (0.1, 0.075, 0.13))
    persona = _rate(8, (0.25, 0.03, 0.65), (0.5, 0.16, 0.84))
    rates = {"near": {"persona": persona, "all": everything}, "far": {"all": everything}}
    data["controls"] = {"dictionary_seed": {"matched": True, "error_rates": rates}}
    said = "225 of 500 latents called changed (45.0 % [40.6 %, 49.5 %]), 10.0 % preserved"
    mine = "2 of 8 persona latents called changed (25.0 % [3 %, 65.0 %]), 50.0 % preserved"
    assert list(controls.sentences(parse(data))) == [
        f"dictionary_seed: {said}, and {mine} (null near); {said} (null far)"
        "; those called changed are unstable across dictionary seeds, and the undetermined "
        "not shown to be stable"
    ]
    rows = controls.table(parse(data)).rows
    assert [row[:5] for row in rows] == [
        ("dictionary_seed", "by firing", "near", "persona", "8"),
        ("dictionary_seed", "by firing", "near", "all", "500"),
        ("dictionary_seed", "by firing", "far", "all", "500"),
    ]


def test_a_control_that_could_not_be_judged_says_why(data):
    nobody = {"n": 0, "changed": {"value": None, "low": 0, "high": 1}}
    data["controls"] = {
        "alone": {"matched": False},
        "silent": {"matched": False, "error_rates": {"near": {"all": nobody}}},
    }
    assert list(controls.sentences(parse(data))) == [
        "alone: not judged, for no null sets thresholds",
        "silent: no latent fires often enough (null near)",
    ]


MISSING = {
    "No null sets thresholds": lambda data: [
        arm.update(null=None) for arm in data["arms"].values()
    ],
    "No held-back continued pre-training": lambda data: data.update(error_rates={}),
    "not continued twice on the same weights": lambda data: data.update(
        controls={"dictionary_seed": {"matched": True}}
    ),
    "No dictionary of another seed": lambda data: data.update(
        controls={"same_weights": {"matched": False}}
    ),
    "No model trained from scratch": lambda data: (
        data.update(reuse_index={}) or data["arms"].pop("scratch")
    ),
    "No second tuned model": lambda data: [
        data[part].pop(name, None)
        for name in ("piston", "format_only")
        for part in ("arms", "reuse_index")
    ],
}


@pytest.mark.parametrize("null", MISSING)
def test_each_missing_null_is_named_and_only_that(data, null):
    data["controls"]["dictionary_seed"] = {"matched": True}
    assert controls.missing(parse(data)) == []
    MISSING[null](data)
    (said,) = controls.missing(parse(data))
    assert null in said
    assert "unproven" in said or "not known" in said


def test_the_page_shows_controls_and_names_the_missing_null(trace_dir):
    page = report.build(trace_dir)
    errors = page[page.index("How often such calls are wrong") : page.index('id="personas"')]
    assert "Controls: other dictionaries of the base model" in errors
    assert "0 of 500 latents called changed (upper limit 0.735\u00a0%)" in errors
    limits = page[page.index('id="limits"') : page.index('id="methods"')]
    assert "No dictionary of another seed was compared" in limits
    assert "not continued twice" not in limits
