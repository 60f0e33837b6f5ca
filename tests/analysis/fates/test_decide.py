"""Whether another latent carries what one was."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.fates.decide import _carried_elsewhere
from analysis.fates.rule import Rule


@pytest.mark.parametrize(
    ("dice", "cosine", "carrier"),
    [(0.6, 0.9, 1), (0.4, 0.9, -1), (0.6, 0.7, -1)],
    ids=["fires and points alike", "fires on too few of its tokens", "points elsewhere"],
)
def test_a_feature_at_another_index_is_carried_there_though_null_latents_fire_more_alike(
    dice, cosine, carrier
):
    coordinates = SimpleNamespace(
        table=pd.DataFrame({"chance_cofiring": [0.1, 0.1]}),
        cofiring=np.array([[0.02, dice], [dice, 0.02]]),
        cosine=np.array([[0.1, cosine], [cosine, 0.1]]),
    )
    band = np.full(2, 0.8), np.ones(2)
    narrow = np.zeros(2), np.full(2, 0.05)  # weighted by energy, of readings: another scale
    held = SimpleNamespace(rule=Rule(), limits={"gating": narrow, "direction": band})
    assert _carried_elsewhere(coordinates, held).tolist() == [carrier, min(carrier, 0)]
