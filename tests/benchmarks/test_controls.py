"""What controls leave alone and what they mix, without a fit."""

import numpy as np
import pandas as pd
import torch

from benchmarks.bench_controls import dealt, onto


def test_labels_are_dealt_by_speaker_and_none_is_lost():
    rng = np.random.default_rng(0)
    rows = [
        (f"d{i}", role, speaker, persona)
        for i in range(40)
        for role, speaker, persona in (
            ("character", "ann", rng.choice(["mentor", "spy"])),
            ("character", "bob", rng.choice(["poet", "spy"])),
            ("narrator", None, "none"),
        )
        for _ in range(3)
    ]
    tokens = pd.DataFrame(rows, columns=["doc", "role", "speaker", "persona"])
    mixed = dealt(tokens, 0)
    said = mixed.groupby(["doc", "speaker"])["persona"].nunique()
    assert (said == 1).all()
    assert mixed["persona"].value_counts().to_dict() == tokens["persona"].value_counts().to_dict()
    assert (mixed.loc[mixed["role"] == "narrator", "persona"] == "none").all()
    assert (mixed["persona"] != tokens["persona"]).mean() > 0.2


def test_a_linear_map_is_found_again():
    rng = np.random.default_rng(1)
    x, turn = rng.normal(size=(200, 5)), rng.normal(size=(5, 5))
    y = x @ turn + 3
    given = [torch.from_numpy(each.astype(np.float32)) for each in (x, y)]
    held = rng.normal(size=(20, 5)).astype(np.float32)
    np.testing.assert_allclose(onto(given[0], given[1], held), held @ turn + 3, atol=1e-3)
