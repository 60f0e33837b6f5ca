"""Which latents stand beside persona latents for comparison."""

import numpy as np
import pytest

from analysis.personas.likes import matched_sets, overlap
from sae.errors import InputError


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


def test_one_latent_is_matched_with_the_ten_nearest_and_not_with_one_alone():
    rates = np.array([0.1, *np.linspace(0.11, 0.5, 40)])
    sets = matched_sets(np.array([0]), np.array([], int), rates, 200)
    assert {int(each[0]) for each in sets} == set(range(1, 11))


def test_overlap_by_hand():
    sets = [np.array([1, 2, 3, 4]), np.array([3, 4, 5, 6]), np.array([1, 2, 5, 6])]
    assert overlap(sets) == 0.5  # any two have two of four
    assert overlap([sets[0], sets[0]]) == 1
    assert overlap([sets[0], sets[0] + 10]) == 0
