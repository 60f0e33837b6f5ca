"""The door that sets three methods beside each other, on a tiny organism."""

import json
import shutil

import pandas as pd
import pytest

import sae
from analysis.study.agreement import METHODS
from sae.formats.native import own_words
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


@pytest.fixture
def replaced(words):
    """Gives the flags, others in place of those of the same name."""

    def of(**flags):
        kept = [each for each in words if each.partition("=")[0][2:] not in flags]
        return [*kept, *(f"--{name}={value}" for name, value in flags.items())]

    return of


@pytest.fixture
def folder(words):
    """Where a flag points."""
    return lambda name: next(
        each.partition("=")[2] for each in words if each.startswith(f"--{name}=")
    )


def retold(path, out, change):
    """The same dictionary, which tells something else of its models."""
    found, meta = sae.read(path)
    told = own_words(meta)
    told["of"]["models"] = change(told["of"]["models"])
    sae.write(out, found, told)
    return out


def stranger(models):
    """The second model is another."""
    return [models[0], models[1] | {"model": "somebody/else", "model_sha256": "0" * 64}]


def untold(models):
    """Nobody knows whose vectors they were, as in another library's file."""
    return [{"model": None}] * len(models)


def test_every_pair_of_methods_is_compared_and_written(door, words, tiny_trace, tmp_path):
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
    text = tmp_path / "text"
    shutil.copytree(tiny_trace / "organism" / "text", text)
    assert door(compare_methods, *words, f"--text=[{text}]", "--out", out)[0] == 0
    with sorted(text.rglob("*.jsonl"))[0].open("a") as file:
        file.write("\n")
    code, said = door(compare_methods, *words, f"--text=[{text}]", "--out", out)
    assert code == 0 and "for a change in" in said and "text" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--tuned=nobody", "name it in --cast.tuned"),
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
    assert said in refused(compare_methods, 2, tmp_path / "out", *kept, change)


def test_a_model_that_was_not_traced_is_one_line(refused, words, tmp_path, tiny_trace):
    models = tiny_trace / "organism" / "models"
    flags = ["--tuned=continued_a", f"--cast.tuned=[continued_a={models / 'continued_a'}]"]
    said = refused(compare_methods, 3, tmp_path / "out", *words, *flags)
    assert "continued_a in" in said and "no fates" in said


@pytest.mark.parametrize("kind", ["crosscoder", "difference"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (stranger, "somebody/else, with other weights"),
        (lambda models: models[::-1], "models/base, in that order"),
        (lambda models: [*models, models[1]], "with other weights"),
    ],
)
def test_a_dictionary_of_other_models_is_refused(
    refused, replaced, folder, tmp_path, kind, change, said
):
    other = retold(folder(kind), tmp_path / "other", change)
    line = refused(compare_methods, 2, tmp_path / "out", *replaced(**{kind: other}))
    assert said in line and str(other) in line and "--models" in line


def test_one_that_does_not_know_its_models_is_believed(door, replaced, folder, tmp_path):
    other = retold(folder("crosscoder"), tmp_path / "other", untold)
    out = tmp_path / "out"
    code, said = door(compare_methods, *replaced(crosscoder=other), "--out", out)
    assert code == 0, said
    assert (out / "agreement.json").is_file()


@pytest.mark.parametrize("part", ["base", "tuned"])
def test_another_model_than_the_traced_one_is_refused(refused, words, tiny_trace, tmp_path, part):
    models = tiny_trace / "organism" / "models"
    other = models / "continued_a"
    given = {"base": models / "base", "tuned": models / "assistant"} | {part: other}
    cast = [f"--cast.base={given['base']}", f"--cast.tuned=[assistant={given['tuned']}]"]
    line = refused(compare_methods, 2, tmp_path / "out", *words, *cast)
    assert "with other weights" in line and f"--cast.{part}" in line


def test_a_trace_of_another_dictionary_is_refused(refused, replaced, tiny_trace, tmp_path):
    shutil.copytree(tiny_trace / "continued", tmp_path / "continued")
    found, meta = sae.read(tmp_path / "continued" / "base")
    found.W_dec.data = found.W_dec.data.roll(1, dims=0)
    sae.write(tmp_path / "continued" / "base", found, own_words(meta))
    flags = replaced(continued=tmp_path / "continued")
    assert "other decoder rows" in refused(compare_methods, 2, tmp_path / "out", *flags)


def test_a_further_dictionary_beside_the_traced_ones_is_no_matter(
    door, replaced, tiny_trace, tmp_path
):
    shutil.copytree(tiny_trace / "continued", tmp_path / "continued")
    shutil.copytree(tmp_path / "continued" / "base", tmp_path / "continued" / "further")
    flags = replaced(continued=tmp_path / "continued")
    code, said = door(compare_methods, *flags, "--out", tmp_path / "out")
    assert code == 0, said


def test_a_trace_whose_rows_are_damaged_is_refused(refused, replaced, tiny_trace, tmp_path):
    shutil.copytree(tiny_trace / "trace", tmp_path / "trace")
    (tmp_path / "trace" / "directions.safetensors").write_bytes(b"no tensors")
    line = refused(compare_methods, 3, tmp_path / "out", *replaced(trace=tmp_path / "trace"))
    assert "decoder rows in" in line and "trace again" in line
