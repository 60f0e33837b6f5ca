"""The door of tracing with other dictionaries of the base model beside the nulls."""

import pytest

from analysis.artefact.summary import read
from sae.errors import ConfigError
from scripts import continue_dictionary, fit_dictionary, trace_personas
from scripts._cast import Cast, trace_config
from scripts._cli import run
from scripts._tracing import Config

HOOK = "blocks.0.hook_resid_post"  # of the tiny run
SHAPE = ["--sae.d_sae=96", "--sae.sparsity.kind=batch_topk", "--sae.sparsity.k=6"]
FIT = ["--sae.prefixes=[]", "--train.n_tokens=60000", "--train.batch_tokens=512", "--train.lr=3e-3"]


@pytest.fixture(scope="module")
def opened():
    """Opens a door and gives its exit code."""

    def open_it(module, config, *words):
        return run(module.main, config, [str(each) for each in words])

    return open_it


@pytest.fixture(scope="module")
def controls(tiny_trace, opened, tmp_path_factory):
    """Two dictionaries of the tiny run: continued in another order, and fitted anew."""
    home, organism = tmp_path_factory.mktemp("controls"), tiny_trace / "organism"
    base, text = organism / "models" / "base", organism / "text"
    more = ["--text", text, "--n_added=8", "--train.n_tokens=10000", "--base", base, "--models"]
    asked = ["--model", base, "--text", text, "--hook", HOOK, *SHAPE, *FIT, "--train.seed=1"]
    door = fit_dictionary, fit_dictionary.Config
    assert opened(*door, *asked, "--out", home / "fitted") == 0
    door = continue_dictionary, continue_dictionary.Config
    for name, dictionary in (("again", tiny_trace / "dictionary"), ("other", home / "fitted")):
        asked = ["--dictionary", dictionary, *more, f"{name}={base}", "--train.seed=1"]
        assert opened(*door, *asked, "--out", home) == 0
    return home


def _flags(tiny_trace, out):
    return [
        "--organism", tiny_trace / "organism", "--dictionary", tiny_trace / "dictionary",
        "--continued", tiny_trace / "continued", "--out", out,
    ]  # fmt: skip


def test_controls_are_judged_written_and_told(tiny_trace, controls, opened, tmp_path, capsys):
    words = [
        *_flags(tiny_trace, tmp_path / "trace"),
        "--cast.again", f"same_weights={controls / 'again'}", f"by_index={controls / 'other'}",
        "--cast.other_seed", f"dictionary_seed={controls / 'other'}",
    ]  # fmt: skip
    assert opened(trace_personas, Config, *words) == 0
    said = capsys.readouterr().out
    found = read(tmp_path / "trace").controls
    assert {name: each.matched for name, each in found.items()} == {
        "same_weights": False,
        "by_index": False,
        "dictionary_seed": True,
    }
    plain = read(tiny_trace / "trace")
    used = {arm.null for arm in plain.arms.values() if arm.null}
    for name, each in found.items():
        assert used <= set(each.error_rates)
        least = next(iter(each.error_rates.values()))["all"]
        share = least.changed.value
        assert share is not None and least.n > 30
        assert f"{name}: {round(share * least.n)} of {least.n} latents" in said
    assert found["by_index"].error_rates != found["dictionary_seed"].error_rates
    assert plain.controls == {}
    assert read(tmp_path / "trace").arms == plain.arms, "controls set no threshold"


def test_the_reference_itself_is_no_control(tiny_trace, opened, tmp_path, capsys):
    """As is a dictionary continued with the reference's own seed, which is the same bit for bit."""
    base = tiny_trace / "organism" / "models" / "base"
    asked = [
        "--dictionary", tiny_trace / "dictionary", "--text", tiny_trace / "organism" / "text",
        "--n_added=8", "--train.n_tokens=10000", "--base", base, "--models", f"same={base}",
    ]  # fmt: skip
    door = continue_dictionary, continue_dictionary.Config
    assert opened(*door, *asked, "--out", tmp_path) == 0
    words = [*_flags(tiny_trace, tmp_path / "trace"), "--cast.again", f"same={tmp_path / 'same'}"]
    assert opened(trace_personas, Config, *words) == ConfigError.exit_code
    assert "the reference itself" in capsys.readouterr().err
    assert not (tmp_path / "trace").exists()


def test_the_flag_says_whether_latents_are_matched(tmp_path):
    cast = Cast("b", ("assistant=a",), None, None, None, ("x=one", "y=two"), ("z=three",))
    config = trace_config(Config(tmp_path, tmp_path, tmp_path, cast=cast), {})
    told = [(each.name, str(each.path), each.matched) for each in config.controls]
    assert told == [("x", "one", False), ("y", "two", False), ("z", "three", True)]


def test_two_controls_of_one_name_are_refused(tmp_path):
    cast = Cast("b", ("assistant=a",), again=("x=one",), other_seed=("x=two",))
    with pytest.raises(ConfigError, match="two controls named x"):
        trace_config(Config(tmp_path, tmp_path, tmp_path, cast=cast), {})
