"""Several models' activations as one source: side by side, or their difference."""

import pytest
import torch

from sae.errors import ConfigError, InputError
from sae.stream.buffer import ActivationBuffer, Source
from sae.stream.several import DifferenceSource, SideBySideSource


class Rows:
    """Two chunks of vectors of width 3 that tell model, chunk and row."""

    n_chunks = 2

    def __init__(self, model, n=4, d_in=3):
        self.model, self.n, self.d_in = model, n, d_in

    def n_most(self, number):
        return self.n + 1

    def chunk(self, number):
        row = torch.arange(self.n, dtype=torch.float32)
        return (self.model + 10.0 * number + row).unsqueeze(1).expand(-1, self.d_in).contiguous()


def test_vectors_lie_side_by_side_in_the_order_of_the_models():
    both = SideBySideSource([Rows(100), Rows(200), Rows(300)])
    assert isinstance(both, Source)
    assert (both.n_chunks, both.d_in, both.n_most(0)) == (2, 9, 5)
    assert both.chunk(1)[2].tolist() == [112.0] * 3 + [212.0] * 3 + [312.0] * 3


def test_a_difference_is_tuned_less_base():
    difference = DifferenceSource(Rows(100), Rows(250))
    assert isinstance(difference, Source)
    assert (difference.n_chunks, difference.d_in, difference.n_most(1)) == (2, 3, 5)
    assert difference.chunk(1).tolist() == [[150.0] * 3] * 4


def test_shuffled_rows_stay_together():
    buffer = ActivationBuffer(SideBySideSource([Rows(100), Rows(200)]), batch_tokens=8)
    batch = next(buffer)
    assert torch.equal(batch[:, 3:] - batch[:, :3], torch.full((8, 3), 100.0))
    assert len(set(batch[:, 0].tolist())) == 8


def test_other_tokens_and_widths_are_refused():
    with pytest.raises(InputError, match=r"chunk 0 of several models; found: \[4, 3\] tokens"):
        SideBySideSource([Rows(0), Rows(1, n=3)]).chunk(0)
    with pytest.raises(ConfigError, match="read the same tokens at one width"):
        DifferenceSource(Rows(0), Rows(1, d_in=4))
    with pytest.raises(ConfigError, match="1 sources"):
        SideBySideSource([Rows(0)])
