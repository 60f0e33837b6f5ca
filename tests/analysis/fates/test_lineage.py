"""Stories of latents along a training run, told by hand."""

import numpy as np
import pandas as pd
import pytest

from analysis.fates.lineage import lineage
from sae.errors import InputError

NAMES = ["a@1", "a@2", "a@3", "a@4"]
P, L, R, A, U = "preserved", "lost", "rotated", "amplified", "undetermined"


def fates(*stories, p=1e-9):
    """One latent a story; its p-value is small at every checkpoint but where it is preserved."""
    rows = [
        (name, latent, "base", fate, 0.5 if fate == P else p, None)
        for latent, story in enumerate(stories)
        for name, fate in zip(NAMES, story, strict=True)
    ]
    columns = ["tuned", "latent", "origin", "fate", "p_value", "persona"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(
    ("story", "expected"),
    [
        ((P, P, L, L), (L, "a@2", "a@3", 2, None)),
        ((P, U, A, U), (A, "a@1", "a@3", 1, None)),  # undetermined at the end: not known to last
        ((U, A, U, A), (A, None, "a@2", 3, None)),  # nor does it end in between
        ((P, R, P, R), (R, "a@1", "a@2", 1, "a@3")),  # went back, whatever came later
        ((P, R, L, P), (R, "a@1", "a@2", 1, "a@4")),
        ((A, A, A, A), (A, None, "a@1", 4, None)),
    ],
)
def test_hand_told_stories(story, expected):
    found = lineage(fates(story, (P, P, P, P)), NAMES)
    row = found.iloc[0]
    told = tuple(row[["fate", "last_before", "onset", "n_lasting", "reversal"]])
    assert tuple(None if pd.isna(each) else each for each in told) == expected
    assert row["last"] == story[-1]
    assert found.iloc[1][["fate", "onset", "n_lasting", "reversal"]].isna().all()


def test_a_change_that_is_called_once_among_many_looks_needs_a_smaller_p_value():
    still = [(P, P, P, P)] * 9
    sure, unsure = (lineage(fates((P, P, L, P), *still, p=p), NAMES) for p in (1e-3, 2e-3))
    assert sure["p_value"][0] == pytest.approx(4e-3) and sure["q_value"][0] == pytest.approx(0.04)
    assert sure["onset"][0] == "a@3"
    assert unsure["q_value"][0] == pytest.approx(0.08) and unsure["onset"].isna().all()


def test_persona_latents_are_a_family_of_their_own():
    table = fates((P, P, L, L), *[(P, P, P, P)] * 9, p=2e-3)
    table.loc[table["latent"] == 0, "persona"] = "sage"
    found = lineage(table, NAMES)
    assert found["persona"][0] == "sage" and found["q_value"][0] == pytest.approx(8e-3)
    assert found["onset"][0] == "a@3"


def test_false_onsets_are_rare_under_the_null():
    rng = np.random.default_rng(0)
    n_false = 0
    for _ in range(50):
        table = fates(*[(L, L, L, L)] * 40)  # every look would be called: p-values alone decide
        table["p_value"] = rng.uniform(size=len(table))
        n_false += int(lineage(table, NAMES)["onset"].notna().any())
    assert n_false <= 6


def test_missing_or_doubled_checkpoints_are_refused():
    with pytest.raises(InputError, match="no fates of a@9"):
        lineage(fates((P, P, P, P)), [*NAMES, "a@9"])
    with pytest.raises(InputError, match="no fates of anything"):
        lineage(fates((P, P, P, P)), [])
    table = fates((P, P, P, P))
    with pytest.raises(InputError, match="twice"):
        lineage(pd.concat([table, table]), NAMES)


def test_a_checkpoint_that_says_nothing_of_a_latent_is_no_change():
    table = fates((P, P, L, L), (P, P, P, P))
    table = table.loc[~((table["latent"] == 0) & (table["tuned"] == "a@2"))]
    row = lineage(table, NAMES).iloc[0]
    assert (row["fate"], row["last_before"], row["onset"]) == (L, "a@1", "a@3")
