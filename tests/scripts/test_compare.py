"""The door that sets three methods beside each other, on a tiny organism."""

import json

import pandas as pd
import pytest

from analysis.agreement import METHODS
from scripts import compare_methods, fit_together
from scripts._agreeing import lines_of

RUN = ["--sae.d_sae=48", "--sae.sparsity.kind=batch_topk", "--sae.sparsity.k=4"]
RUN += ["--sae.prefixes=[]", "--train.n_tokens=5120", "--train.batch_tokens=256"]


@pytest.fixture
def words(door, tiny_trace, tmp_path_factory):
    """Flags of the door, with a crosscoder and a difference that are fitted once."""
    home = tmp_path_factory.getbasetemp() / "compared"
    organism = tiny_trace / "organism"
    models = [organism / "models" / name for name in ("base", "assistant")]
    hook = json.loads((organism / "organism.json").read_text())["config"]["hook"]
    for kind in ("crosscoder", "difference"):
        words = ["--models", *models, "--text", organism / "text", "--hook", hook, *RUN]
        code, said = door(fit_together, *words, f"--of.kind={kind}", "--out", home / kind)
        assert code == 0, said
    flags = [f"--{name}={tiny_trace / name}" for name in ("trace", "continued", "organism")]
    return [*flags, f"--crosscoder={home / 'crosscoder'}", f"--difference={home / 'difference'}"]


def test_every_pair_of_methods_is_compared_and_written(door, words, tmp_path):
    out = tmp_path / "agreement"
    code, said = door(compare_methods, *words, "--out", out)
    assert code == 0, said
    record = json.loads((out / "agreement.json").read_text())
    assert record["tuned"] == "assistant"
    assert [(row["first"], row["second"]) for row in record["pairs"]] == [
        ("continued", "crosscoder"),
        ("continued", "difference"),
        ("crosscoder", "difference"),
    ]
    table = pd.read_parquet(out / "agreement.parquet")
    assert len(table) == record["pairs"][1]["n"] > 0
    assert set(table[list(METHODS)].stack()) <= {"same", "changed", "undecided"}
    assert "do three methods agree" in lines_of(out)[0] and "kappa" in lines_of(out)[1]
    written = (out / "agreement.json").stat().st_mtime_ns
    assert door(compare_methods, *words, "--out", out)[0] == 0  # skipped
    assert (out / "agreement.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--tuned=nobody", "no fates"),
        ("--crosscoder=DIFFERENCE", "as a crosscoder"),
        ("--difference=BASE", "a dictionary of one model"),
    ],
)
def test_what_is_no_such_dictionary_is_one_line(refused, words, tmp_path, tiny_trace, change, said):
    difference = next(each for each in words if each.startswith("--difference"))
    change = change.replace("DIFFERENCE", difference.partition("=")[2])
    change = change.replace("BASE", str(tiny_trace / "continued" / "base"))
    name = change.partition("=")[0]
    kept = [each for each in words if not str(each).startswith(f"{name}=")]
    code = 3 if name == "--tuned" else 2
    assert said in refused(compare_methods, code, tmp_path / "out", *kept, change)
