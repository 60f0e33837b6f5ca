"""A training step of dictionary_learning: its trainer's `update`."""

from itertools import pairwise

import torch
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.top_k import TopKTrainer
from worker import DEAD_BIAS, Shape, Step, serve


def make(shape: Shape) -> Step:
    """The trainer of the kind, with some latents that are dead from the beginning."""
    common = {"steps": 10_000, "activation_dim": shape.d_in, "dict_size": shape.d_sae}
    common |= {"k": shape.k, "layer": 0, "lm_name": "none", "device": "cpu", "seed": 0}
    common |= {"warmup_steps": 0}
    if shape.prefixes:
        sizes = [b - a for a, b in pairwise((0, *shape.prefixes, shape.d_sae))]
        shares = [size / shape.d_sae for size in sizes]
        trainer = MatryoshkaBatchTopKTrainer(**common, group_fractions=shares)
        bias = trainer.ae.b_enc
    else:
        trainer = {"topk": TopKTrainer, "batch_topk": BatchTopKTrainer}[shape.kind](**common)
        bias = trainer.ae.encoder.bias
    with torch.no_grad():
        bias[: shape.n_dead] = DEAD_BIAS
    trainer.num_tokens_since_fired[: shape.n_dead] = 10**9
    n = 0

    def step(x: torch.Tensor) -> float:
        nonlocal n
        n += 1
        return float(trainer.update(n, x))

    return step


serve(make)
