"""Models in which latents mean something else downstream, and nothing else has changed.

A rotation of the residual stream is folded into all that reads it and undone in all that writes to
it, from one block on. So the residual vectors up to there are what they were, and what comes of
them is what came of the rotated ones.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from sae.errors import ConfigError

__all__ = ["rewired", "turning"]


def turning(
    pairs: Sequence[tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]],
    angles: Sequence[float],
) -> Float[np.ndarray, "d d"]:
    """The rotation that turns the first direction of each pair towards the second.

    Args:
        pairs: Two directions each, no two of which are parallel.
        angles: How far; unit: radians. Planes that share a direction are turned one after another.

    Example:
        >>> turning([(np.array([1.0, 0, 0]), np.array([1.0, 1, 0]))], [np.pi / 2]).round(9)[:, 0]
        array([0., 1., 0.])
    """
    whole = np.eye(len(pairs[0][0]))
    for (first, second), angle in zip(pairs, angles, strict=True):
        u = first / np.linalg.norm(first)
        v = second - (second @ u) * u
        v = v / np.linalg.norm(v)
        c, s = np.cos(angle), np.sin(angle)
        plane = np.stack([u, v])
        turn = plane.T @ (np.array([[c, -s], [s, c]]) - np.eye(2)) @ plane
        whole = (np.eye(len(u)) + turn) @ whole
    return whole


@torch.no_grad()
def rewired(
    module: PreTrainedModel, n_blocks: int, rotation: Float[np.ndarray, "d d"]
) -> PreTrainedModel:
    """A copy of a model that makes of a residual vector what it made of the rotated one.

    Args:
        module: A Llama; its embeddings may be tied, those of the copy are not.
        n_blocks: Blocks that stay as they are; the vectors after them are rotated.
        rotation: Orthogonal.

    Raises:
        ConfigError: The model is no Llama, or one with biases, or has no block left; or the matrix
            is no rotation.
    """
    if module.config.model_type != "llama" or n_blocks >= module.config.num_hidden_layers:
        found = f"a {module.config.model_type} of {module.config.num_hidden_layers} blocks"
        raise ConfigError(f"a Llama of more than {n_blocks} blocks", found, "name another")
    if any(getattr(module.config, name, False) for name in ("attention_bias", "mlp_bias")):
        raise ConfigError("a Llama without biases", "one with", "name another")
    turn = torch.from_numpy(np.asarray(rotation, np.float64))
    if not torch.allclose(turn @ turn.T, torch.eye(len(turn), dtype=turn.dtype), atol=1e-9):
        raise ConfigError("a rotation", "a matrix that is not orthogonal", "pass one of `turning`")
    out = copy.deepcopy(module)
    out.config.tie_word_embeddings = False
    out.lm_head.weight = torch.nn.Parameter(module.lm_head.weight.clone())
    for block in out.model.layers[n_blocks:]:
        reads = (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj)
        for layer in reads:
            _read_(layer.weight, block.input_layernorm.weight, turn)
        for layer in (block.mlp.gate_proj, block.mlp.up_proj):
            _read_(layer.weight, block.post_attention_layernorm.weight, turn)
        for layer in (block.self_attn.o_proj, block.mlp.down_proj):
            layer.weight.copy_(turn.T @ layer.weight.double())
    _read_(out.lm_head.weight, out.model.norm.weight, turn)
    return out


def _read_(
    weight: Float[Tensor, "d_out d"], gain: Float[Tensor, " d"], turn: Float[Tensor, "d d"]
) -> None:
    """Folds the rotation in behind a norm, whose gains lie between."""
    gain = gain.double()
    weight.copy_((weight.double() * gain) @ turn / gain)
