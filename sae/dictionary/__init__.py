"""activations -> latents."""

from sae.dictionary.config import (
    CrosscoderConfig,
    SaeConfig,
    SharedConfig,
    config_to_dict,
    sae_config_from_dict,
    sparsity_from_dict,
)
from sae.dictionary.crosscoder import Crosscoder, side_by_side
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
    "Crosscoder",
    "CrosscoderConfig",
    "GatedConfig",
    "JumpReluConfig",
    "JumpReluL0Config",
    "JumpReluTanhConfig",
    "Loss",
    "ReluConfig",
    "Sae",
    "SaeConfig",
    "SaeOutput",
    "SharedConfig",
    "SparsityConfig",
    "TopKConfig",
    "config_to_dict",
    "dictionary_loss",
    "initialise_",
    "sae_config_from_dict",
    "side_by_side",
    "sparsity_from_dict",
]
