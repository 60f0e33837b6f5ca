"""Not a step: the encoder's product alone, which no step can do without."""

import torch
from worker import Shape, Step, serve


def make(shape: Shape) -> Step:
    """The product in the type that the kind names."""
    dtype = getattr(torch, shape.kind)
    weight = torch.randn(shape.d_sae, shape.d_in).to(dtype)

    def step(x: torch.Tensor) -> float:
        return float((x.to(dtype) @ weight.T)[0, 0])

    return step


serve(make)
