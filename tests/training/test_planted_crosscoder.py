"""Two models with features that both have, one has, or one has more of: what a crosscoder says."""

import numpy as np
import pytest
import torch
from scipy import sparse

from analysis.latents.existence import latent_scaling
from analysis.latents.traces import Firing
from analysis.statistics.intervals import assign_blocks, resample_weights
from sae.dictionary import (
    BatchTopKConfig,
    Crosscoder,
    CrosscoderConfig,
    ReluConfig,
    Sae,
    SaeConfig,
    SharedConfig,
    initialise_,
)
from sae.dictionary.metrics import fvu_compute, l0_compute, l0_update
from training.config import TrainConfig
from training.loop import fit

D_MODEL, D_SAE, RATE = 24, 32, 0.12
KINDS = {"shared": (1.0, 1.0), "faint": (0.2, 1.0), "base": (1.0, 0.0), "tuned": (0.0, 1.0)}
N_EACH = {"shared": 9, "faint": 3, "base": 3, "tuned": 3}
KIND = [kind for kind, n in N_EACH.items() for _ in range(n)]
TWO = CrosscoderConfig(2)
SCALE = torch.tensor([1.0, 4.0])
"""The second model's vectors are four times as long."""


class Planted:
    """Sums of orthogonal directions, in each model as strong as their kind says, and noise."""

    def __init__(self, seed, faint=0.2):
        self.draw = torch.Generator().manual_seed(seed)
        square = torch.randn(D_MODEL, D_MODEL, generator=self.draw)
        directions = torch.linalg.qr(square).Q[: len(KIND)]
        kinds = KINDS | {"faint": (faint, 1.0)}
        strength = torch.tensor([kinds[kind] for kind in KIND])
        self.rows = directions.unsqueeze(1) * strength.unsqueeze(2)

    def __iter__(self):
        return self

    def __next__(self):
        n, draw = 512, self.draw
        fires = torch.rand(n, len(KIND), generator=draw) < RATE
        amount = fires * (0.5 + torch.rand(n, len(KIND), generator=draw))
        x = torch.einsum("nf,fmd->nmd", amount, self.rows)
        x = x + 0.02 * torch.randn(x.shape, generator=draw)
        return (x * SCALE.unsqueeze(1)).flatten(1)


def fitted(sparsity, seed, over=TWO, faint=0.2):
    planted = Planted(seed, faint)
    sae = Sae(SaeConfig(2 * D_MODEL, D_SAE, sparsity, crosscoder=over))
    initialise_(sae, torch.cat([next(planted) for _ in range(8)]), seed)
    run = TrainConfig(512 * 250, 512, lr=8e-3, dead_after_tokens=20_000)
    *_, _ = fit(sae, planted, run)
    return Crosscoder(sae.folded()), planted


def found(crosscoder, planted):
    """By kind of feature, of the latent most like it: the base model's share of norms, the cosine
    with the feature, the cosine between its rows in both models."""
    true = torch.nn.functional.normalize(planted.rows.flatten(1), dim=1)
    rows = torch.nn.functional.normalize(crosscoder.directions.transpose(0, 1), dim=2)
    weighted = rows * crosscoder.relative_norms.T.unsqueeze(2)
    mine = torch.nn.functional.normalize(weighted.flatten(1), dim=1)
    cosine, nearest = (true @ mine.T).max(dim=1)
    numbers = crosscoder.relative_norms[0, nearest], cosine, crosscoder.cosines()[nearest]
    kinds = {kind: [each == kind for each in KIND] for kind in KINDS}
    return {kind: tuple(each[at] for each in numbers) for kind, at in kinds.items()}


def measured(crosscoder, planted):
    x = next(planted).unflatten(1, (2, D_MODEL))
    fvu = [fvu_compute(each) for each in crosscoder.fvu_update(x)]
    return fvu, l0_compute(l0_update(crosscoder.encode_sparse(x)))


@pytest.mark.parametrize("over", [CrosscoderConfig(2), CrosscoderConfig(2, n_own=(4, 4))])
def test_batch_topk_tells_shared_features_from_those_of_one_model(over):
    crosscoder, planted = fitted(BatchTopKConfig(2), 0, over)
    fvu, l0 = measured(crosscoder, planted)
    assert max(fvu) < 0.05
    assert 1.5 < l0 < 3
    share = found(crosscoder, planted)
    assert all(cosine.min() > 0.95 for _, cosine, _ in share.values())
    strong = share["shared"][0]
    assert strong.sub(0.5).abs().max() < 0.1
    assert share["base"][0].min() > 0.9
    assert share["tuned"][0].max() < 0.1
    # 0.2 against 1, and the balance makes the tuned model's a tenth shorter
    assert share["faint"][0].sub(0.18).abs().max() < 0.03
    assert share["shared"][2].min() > 0.99


def test_l1_takes_faint_features_for_those_of_one_model():
    """Complete shrinkage: the base model has a fifth of these features, its rows nearly nothing."""
    crosscoder, planted = fitted(ReluConfig(0.2), 0)
    share = found(crosscoder, planted)
    assert share["shared"][0].sub(0.5).abs().max() < 0.1
    assert share["faint"][1].min() > 0.95
    assert share["faint"][0].max() < 0.1


def scaled(crosscoder, planted):
    """Latent scaling of every latent, from the tuned model to the base model, in one unit."""
    x = torch.cat([next(planted) for _ in range(16)])
    kept = crosscoder.sae.encode_sparse(x)
    parts = kept.value.detach().numpy(), kept.index.numpy(), kept.starts.numpy()
    z = sparse.csr_array(parts, (len(kept), kept.d_sae))
    rows = crosscoder.directions / SCALE.view(2, 1, 1)
    base, tuned = (Firing(z, each.numpy()) for each in rows)
    parts = zip(crosscoder.apart(x), SCALE, strict=True)
    first, second = ((each / factor).numpy() for each, factor in parts)
    blocks = assign_blocks(np.repeat(np.arange(64), len(x) // 64))
    every, weights = np.arange(D_SAE), resample_weights(blocks.n_blocks)
    return latent_scaling((second, tuned), (first, base), every, blocks, weights)


@pytest.mark.parametrize(("sparsity", "n"), [(ReluConfig(0.3), 3), (BatchTopKConfig(2), 0)])
def test_latent_scaling_shows_what_l1_takes_for_new(sparsity, n):
    """Features of which the base model has a third: specific to the tuned model by the norms of an
    L1 crosscoder, not by latent scaling; by those of a BatchTopK one they are not."""
    crosscoder, planted = fitted(sparsity, 0, faint=1 / 3)
    alone = (crosscoder.relative_norms[0] < 0.1).numpy()
    nu = scaled(crosscoder, planted)
    fires = nu["nu_error"].notna()
    specific = (nu["nu_error"] < 0.2) & (nu["nu_reconstruction"] < 0.5)
    assert (alone & specific & fires).sum() == 3
    false = alone & ~specific & fires
    assert false.sum() == n
    assert nu["nu_error"][false].to_numpy() == pytest.approx(1 / 3, abs=0.05)


def test_shared_latents_with_a_price_take_the_shared_features():
    over = CrosscoderConfig(2, SharedConfig(9))
    crosscoder, planted = fitted(ReluConfig(0.2), 0, over)
    share, *_ = found(crosscoder, planted)["shared"]
    assert (share == 0.5).sum() >= 7
