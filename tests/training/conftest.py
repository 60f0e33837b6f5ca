import pytest
import torch

from sae.dictionary import BatchTopKConfig, Sae, SaeConfig, initialise_
from training.config import TrainConfig


class Stream:
    """A resumable stream with refills: chunks drawn from a seed, each cut into four batches."""

    def __init__(self, x, batch_tokens, cursor=None):
        self.x, self.batch_tokens = x, batch_tokens
        self.at = dict(cursor or {"fill": 0, "batch": 0})

    def cursor(self):
        return dict(self.at)

    def __iter__(self):
        return self

    def __next__(self):
        order = torch.randperm(
            len(self.x), generator=torch.Generator().manual_seed(self.at["fill"])
        )
        start = self.at["batch"] * self.batch_tokens
        fill, batch = self.at["fill"], self.at["batch"] + 1
        self.at = {"fill": fill + batch // 4, "batch": batch % 4}
        return self.x[order[start : start + self.batch_tokens]]


@pytest.fixture
def stream():
    return Stream


@pytest.fixture
def run_config():
    return TrainConfig(n_tokens=64 * 60, batch_tokens=64, lr=3e-3, dead_after_tokens=256)


@pytest.fixture
def x():
    """Sparse sums of 24 directions in 12 dimensions, with a mean and a scale of their own."""
    draw = torch.Generator().manual_seed(5)
    directions = torch.nn.functional.normalize(torch.randn(24, 12, generator=draw), dim=-1)
    amounts = torch.rand(512, 24, generator=draw) * (torch.rand(512, 24, generator=draw) < 0.1)
    return 7.0 * (amounts @ directions) + 3.0


@pytest.fixture
def make_sae(x):
    def make(sparsity=None, d_sae=48, prefixes=()):
        sae = Sae(SaeConfig(12, d_sae, sparsity or BatchTopKConfig(k=3), prefixes))
        initialise_(sae, x, seed=1)
        return sae

    return make
