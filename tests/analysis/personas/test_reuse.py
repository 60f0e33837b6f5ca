import numpy as np
import pytest

from analysis.personas.reuse import excess, reuse_index
from analysis.statistics.intervals import Blocks, assign_blocks
from sae.errors import InputError

D, K = 12, 4


def _world(seed=0, n_documents=200, length=20):
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(n_documents), length)
    n = len(document)
    personas = np.maximum(rng.normal(size=(n, K)), 0)
    matched = [np.maximum(rng.normal(size=(n, K)), 0) for _ in range(3)]
    mixing = rng.normal(size=(K, D))

    def model(share):
        return share * personas @ mixing + rng.normal(size=(n, D))

    return personas, matched, model, document % 2 == 0, assign_blocks(document)


def test_excess_is_the_r2_that_personas_add():
    personas, matched, model, fit, blocks = _world()
    target = model(1.0)
    found = excess(personas, matched, target, fit, blocks)
    noise = D * (~fit).sum()
    expected = 1 - noise / ((target[~fit] - target[~fit].mean(0)) ** 2).sum()
    assert found.of()[0] == pytest.approx(expected, abs=0.02)
    low, high = found.interval()[1:]
    assert low <= found.of()[0] <= high
    none = excess(personas, matched, model(0.0), fit, blocks).interval()
    assert none.low <= 0.005 and none.high >= -0.005 and abs(none.value) < 0.01


def test_reuse_index_puts_arms_on_the_scale():
    personas, matched, model, fit, blocks = _world(1)
    base, scratch, half = (
        excess(personas, matched, model(share), fit, blocks) for share in (1.0, 0.0, 0.6)
    )
    assert reuse_index(base, scratch, base).value == 1
    assert reuse_index(scratch, scratch, base) == (0, 0, 0)
    found = reuse_index(half, scratch, base)
    assert 0 < found.low < found.value < found.high < 1
    by_hand = (half.of() - scratch.of()) / (base.of() - scratch.of())
    assert found.value == pytest.approx(by_hand[0])


def test_a_scale_without_poles_is_not_a_scale():
    personas, matched, model, fit, blocks = _world(2)
    arm, scratch, base = (
        excess(personas, matched, model(share), fit, blocks) for share in (1.0, 0.0, 0.0)
    )
    assert np.isnan(reuse_index(arm, scratch, base)).all()


def test_mistakes_are_named():
    personas, matched, model, fit, blocks = _world(3)
    target = model(1.0)
    with pytest.raises(InputError, match="as many matched"):
        excess(personas, [matched[0][:, :2]], target, fit, blocks)
    with pytest.raises(InputError, match="one split only"):
        excess(personas, matched, target, np.ones(len(fit), bool), blocks)
    whole = excess(personas, matched, target, fit, blocks)
    few = excess(personas, matched, target, fit, Blocks(blocks.of_token % 32, 32))
    with pytest.raises(InputError, match="different blocks"):
        reuse_index(whole, few, whole)
