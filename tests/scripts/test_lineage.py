"""The door of lineages: a table by onset, a file, and one line where there is no series."""

import pandas as pd
import pytest

from scripts import tell_lineage
from scripts._lineage import by_onset


def test_a_trace_of_two_models_is_told_in_their_order(tiny_trace, door, tmp_path):
    """The arms stand for checkpoints; nothing is asked of what they are."""
    names = pd.read_parquet(tiny_trace / "trace" / "fates.parquet")["tuned"].unique()
    given = ["--trace", tiny_trace / "trace", "--out", tmp_path / "o", "--checkpoints"]
    code, said = door(tell_lineage, *given, f"[{names[0]},{names[0]}]")
    assert code == 2 and "no series" in said
    code, said = door(tell_lineage, *given, f"[{names[0]},nobody]")
    assert code == 3 and "no fates of nobody" in said
    assert not (tmp_path / "o").exists()


def test_a_series_is_written(door, tmp_path, tiny_trace):
    fates = pd.read_parquet(tiny_trace / "trace" / "fates.parquet")
    first = fates.loc[fates["tuned"] == fates["tuned"].iloc[0]]
    later = first.assign(tuned="later", fate="suppressed", p_value=1e-6)
    (tmp_path / "trace").mkdir()
    for each in (tiny_trace / "trace").iterdir():
        if each.is_file():
            (tmp_path / "trace" / each.name).write_bytes(each.read_bytes())
    both = pd.concat([first.assign(tuned="early"), later], ignore_index=True)
    both.to_parquet(tmp_path / "trace" / "fates.parquet")
    given = ["--trace", tmp_path / "trace", "--out", tmp_path / "o"]
    code, said = door(tell_lineage, *given, "--checkpoints", "[early,later]")
    assert code == 0, said
    found = pd.read_parquet(tmp_path / "o" / "lineage.parquet")
    assert len(found) == first.loc[first["origin"] == "base", "latent"].nunique()
    assert (found["onset"] == "later").any() and set(found["last"]) == {"suppressed"}


def test_the_table_counts_by_onset():
    found = pd.DataFrame(
        {
            "onset": ["b", "a", None, "b"],
            "fate": ["lost", "rotated", None, "rotated"],
            "last": ["lost", "preserved", "preserved", "rotated"],
            "reversal": [None, "b", None, None],
        }
    )
    lines = by_onset(found, ("a", "b")).splitlines()
    assert lines[0] == "3 of 4 latents changed."
    assert [line.split() for line in lines[-2:]] == [list("a0101"), list("b1120")]
    nothing = found.assign(onset=None)
    assert by_onset(nothing, ("a", "b")) == "None of 4 latents has an onset."


@pytest.mark.parametrize("q", ["0", "1"])
def test_a_rate_lies_between_0_and_1(door, tmp_path, tiny_trace, q):
    given = ["--trace", tiny_trace / "trace", "--out", tmp_path / "o", "--checkpoints", "[a,b]"]
    code, said = door(tell_lineage, *given, "--q", q)
    assert code == 2 and "between 0 and 1" in said
