"""A training step of SAELens: its trainer's `step`."""

import torch
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from worker import DEAD_BIAS, Shape, Step, serve


def make(shape: Shape) -> Step:
    """The trainer of the kind, with some latents that are dead from the beginning."""
    common = {"d_in": shape.d_in, "d_sae": shape.d_sae, "k": shape.k}
    if shape.prefixes:
        widths = [*shape.prefixes, shape.d_sae]
        config = MatryoshkaBatchTopKTrainingSAEConfig(**common, matryoshka_widths=widths)
        sae = MatryoshkaBatchTopKTrainingSAE(config)
    elif shape.kind == "topk":
        sae = TopKTrainingSAE(TopKTrainingSAEConfig(**common))
    else:
        sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common))
    with torch.no_grad():
        sae.b_enc[: shape.n_dead] = DEAD_BIAS
    samples = {"total_training_samples": 10_000 * shape.batch}
    run = SAETrainerConfig(**samples, train_batch_size_samples=shape.batch, lr_end=3e-5)
    trainer = SAETrainer(run, sae, data_provider=iter(()))
    trainer.n_forward_passes_since_fired[: shape.n_dead] = 10**9

    def step(x: torch.Tensor) -> float:
        return float(trainer.step(x).loss)

    return step


serve(make)
