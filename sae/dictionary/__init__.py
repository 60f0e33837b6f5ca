"""activations -> latents."""

from sae.dictionary.config import (
    SaeConfig,
    config_to_dict,
    sae_config_from_dict,
    sparsity_from_dict,
)
from sae.dictionary.initialise import initialise_
from sae.dictionary.kinds import (
    BatchTopKConfig,
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    SparsityConfig,
    TopKConfig,
)
from sae.dictionary.losses import Loss, dictionary_loss
from sae.dictionary.sae import Sae, SaeOutput

__all__ = [
    "BatchTopKConfig",
    "GatedConfig",
    "JumpReluConfig",
    "JumpReluL0Config",
    "JumpReluTanhConfig",
    "Loss",
    "ReluConfig",
    "Sae",
    "SaeConfig",
    "SaeOutput",
    "SparsityConfig",
    "TopKConfig",
    "config_to_dict",
    "dictionary_loss",
    "initialise_",
    "sae_config_from_dict",
    "sparsity_from_dict",
]
