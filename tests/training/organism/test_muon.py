import pytest
import torch

from training.organism.muon import Muon, orthogonalised

SHAPES = [(8, 8), (8, 8), (6, 10), (10, 6)]


def drawn(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 10), (1, 10, 6)])
def test_singular_values_come_near_one_and_vectors_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    turned = u.mT @ orthogonalised(matrices, torch.float32) @ v.mT
    values = turned.diagonal(dim1=1, dim2=2)
    is_large = s / s.amax(1, keepdim=True) > 0.05  # the smallest take more than five rounds
    assert ((values[is_large] - 1).abs() < 0.35).all()
    off = turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 1e-4


def test_in_bfloat16_it_is_the_optimiser_of_torch():
    ours, theirs = ([torch.nn.Parameter(each) for each in drawn(0)] for _ in range(2))
    one = Muon(ours, 0.02, torch.bfloat16, weight_decay=0.1)
    other = torch.optim.Muon(theirs, 0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        for params, optimiser in ((ours, one), (theirs, other)):
            for param, grad in zip(params, drawn(step + 1), strict=True):
                param.grad = grad
            optimiser.step()
    for mine, reference, start in zip(ours, theirs, drawn(0), strict=True):
        apart, moved = (mine - reference).norm(), (reference - start).norm()
        assert moved > 0.1
        assert apart < 0.02 * moved  # a bfloat16 step has not quite three digits


def test_float32_differs_by_rounding_alone():
    matrices = torch.randn(4, 16, 24, generator=torch.Generator().manual_seed(1))
    exact = orthogonalised(matrices.double(), torch.float64)
    assert torch.allclose(orthogonalised(matrices, torch.float32).double(), exact, atol=1e-4)


def test_no_gradient_no_step():
    param = torch.nn.Parameter(torch.ones(2, 2))
    Muon([param], 0.1, torch.float32, weight_decay=0.5).step()
    assert torch.equal(param, torch.ones(2, 2))


def test_weights_decay_to_zero_or_to_where_they_began():
    start = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    for to_start, aim in ((False, torch.zeros(2, 2)), (True, start)):
        param = start.clone().requires_grad_()
        optimiser = Muon([param], 0.1, torch.float32, weight_decay=2.0, to_start=to_start)
        param.grad = torch.eye(2)
        optimiser.step()
        # Decay finds nothing to do at the start, and takes a fifth of the weights where it is zero.
        moved = param.detach() - (start if to_start else 0.8 * start)
        with torch.no_grad():
            param.copy_(start + torch.ones(2, 2))
        param.grad = torch.zeros(2, 2)
        before = param.detach().clone()
        optimiser.state[param]["momentum_buffer"].zero_()
        optimiser.step()
        torch.testing.assert_close(param.detach(), before + 0.2 * (aim - before))
        assert (moved.diagonal() < 0).all() and moved.abs().max() < 0.1
