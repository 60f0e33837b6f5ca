"""What a sparse dictionary is, and what feeds it."""

from sae.dictionary import (
    BatchTopKConfig,
    Crosscoder,
    CrosscoderConfig,
    GatedConfig,
    JumpReluConfig,
    JumpReluL0Config,
    JumpReluTanhConfig,
    ReluConfig,
    Sae,
    SaeConfig,
    SharedConfig,
    TopKConfig,
)
from sae.formats import Given, read, sanity_check, write

__version__ = "0.1.0"

__all__ = [
    "BatchTopKConfig",
    "Crosscoder",
    "CrosscoderConfig",
    "GatedConfig",
    "Given",
    "JumpReluConfig",
    "JumpReluL0Config",
    "JumpReluTanhConfig",
    "ReluConfig",
    "Sae",
    "SaeConfig",
    "SharedConfig",
    "TopKConfig",
    "__version__",
    "read",
    "sanity_check",
    "write",
]
