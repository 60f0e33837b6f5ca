"""Which latents stand beside persona latents for comparison."""

import numpy as np
import pytest

from analysis.likes import matched_latents, matched_sets
from sae.errors import InputError


def test_matches_are_nearest_in_rate_and_never_selected():
    rates = np.array([0.1, 0.2, 0.11, 0.19, 0.4, 0.0])
    found = matched_latents(np.array([0, 1]), np.array([0, 1, 4]), rates, 2)
    assert found.tolist() == [[2, 3], [3, 2]]
    with pytest.raises(InputError, match="live latents"):
        matched_latents(np.array([0]), np.array([1, 2, 3]), rates, 2)


def test_a_set_has_as_many_others_of_like_rate_and_no_two_the_same():
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.001, 0.3, 300)
    rates[250:] = 0
    chosen, excluded = np.arange(20), np.arange(20, 30)
    sets = matched_sets(chosen, excluded, rates, 8)
    assert len(sets) == 8
    for each in sets:
        assert len(set(each.tolist())) == 20
        assert each.min() >= 30 and (rates[each] > 0).all()
        assert np.abs(np.log(rates[each] / rates[chosen])).mean() < 0.3
    assert any((sets[0] != each).any() for each in sets[1:])
    again = matched_sets(chosen, excluded, rates, 8)
    assert all((a == b).all() for a, b in zip(sets, again, strict=True))
    with pytest.raises(InputError, match="live latents that were not selected"):
        matched_sets(np.arange(200), excluded, rates, 1)
