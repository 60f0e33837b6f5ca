"""A dictionary of SAELens, fitted by its trainer, saved and read back by its own code."""

import tempfile

from sae_lens import SAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.matryoshka_batchtopk_sae import (
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
)
from sae_lens.training.sae_trainer import SAETrainer
from worker import Asked, Fitted, asked, leave


def fitted(task: Asked) -> Fitted:
    """Its defaults, and a rate that falls to 0 over the last fifth, as its authors advise.

    Activations come with a mean squared norm of d_in, which is what its own scaling of them would
    bring about, so that stays off, as it is by default.

    Args:
        task: What to fit.
    """
    common = {"d_in": task.d_in, "d_sae": task.d_sae, "k": task.k}
    if task.kind == "matryoshka":
        widths = [*task.prefixes, task.d_sae]
        config = MatryoshkaBatchTopKTrainingSAEConfig(**common, matryoshka_widths=widths)
        sae = MatryoshkaBatchTopKTrainingSAE(config)
    else:
        sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common))
    n_steps = task.n_tokens // task.batch
    run = SAETrainerConfig(
        total_training_samples=task.n_tokens,
        train_batch_size_samples=task.batch,
        lr=SAETrainerConfig.lr if task.lr is None else task.lr,
        lr_end=SAETrainerConfig.lr,  # asked for, and of no effect where the rate is constant
        lr_decay_steps=n_steps // 5,
        dead_feature_window=max(1, task.dead_after_tokens // task.batch),
    )
    SAETrainer(run, sae, data_provider=task.batches()).fit()
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        done = SAE.load_from_disk(folder)
    settings = {
        "lr": run.lr,
        "lr_decay_steps": run.lr_decay_steps,
        "dead_feature_window": run.dead_feature_window,
        "aux_loss_coefficient": sae.cfg.aux_loss_coefficient,
        "decoder_init_norm": sae.cfg.decoder_init_norm,
        "topk_threshold_lr": sae.cfg.topk_threshold_lr,
        "normalize_activations": sae.cfg.normalize_activations,
        "matryoshka_widths": getattr(sae.cfg, "matryoshka_widths", None),
    }
    return Fitted(done.W_dec, done.b_dec, done.encode, settings)


if __name__ == "__main__":
    given = asked()
    leave(given, fitted(given))
