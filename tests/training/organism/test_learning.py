"""How soon something is learned, with losses by hand in place of a model's."""

import numpy as np
import pytest

from training.organism import learning as learnings
from training.organism.corpus import tokenizer
from training.organism.language_model import LmStep, ShapeConfig, new_model
from training.organism.learning import Learning

LOSSES = {0: 4.0, 1: 3.0, 2: 2.0, 4: 1.0, 8: 0.5, 16: 0.5}


@pytest.fixture
def now(monkeypatch):
    """The step at which a loss is asked for, of four documents that differ."""
    at = [0]

    def document_losses(module, held_out):
        n = np.array([10.0, 20.0, 10.0, 20.0])
        return np.stack([n * (LOSSES[at[0]] + np.array([0.1, -0.1, -0.1, 0.1])), n], 1)

    monkeypatch.setattr(learnings, "document_losses", document_losses)
    return at


def test_the_excess_is_the_area_under_the_curve(world, now):
    """By trapezoids over 16 of 64 steps: 3.5 + 2.5 + 2 * 1.5 + 4 * .75 + 8 * .5 = 16."""
    module = new_model(ShapeConfig(d_model=32, n_layers=1, n_heads=2), tokenizer(world), 0)
    learning, heard = Learning(module, [], 64), []
    for step in range(1, 65):
        now[0] = step if step in LOSSES else 16
        heard += learning.along(iter([LmStep(step, 0, 0.0)]))
    assert [each.step for each in heard] == list(range(1, 65))
    assert [step for step, _ in learning.curve] == [0, 1, 2, 4, 8, 16]
    found = learning.excess(0.25)
    assert found["value"] == pytest.approx(0.75)
    assert found["high"] - found["value"] == pytest.approx(found["value"] - found["low"])
    n = np.array([10, 20, 10, 20])
    off = n * np.array([0.1, -0.1, -0.1, 0.1]) / n.mean()
    assert found["high"] - 0.75 == pytest.approx(3.182 * off.std(ddof=1) / 2, rel=1e-3)
