"""What a dictionary is of: one model, unless its file says that it is of several."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sae.errors import ConfigError

__all__ = ["OF", "of_several", "require_one_model"]

OF = "of"
"""Name in a header under which a dictionary of several models says so."""


def of_several(
    kind: Literal["crosscoder", "difference"], models: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the file of a dictionary of several models says, for `sae.write`.

    Args:
        kind: `crosscoder` for vectors side by side, `difference` for the second model's less the
            first's.
        models: What is known of each, such as its name, in the order of the vectors.

    Returns:
        `of`, which holds both; `model` and `revision`, null, since no one model is meant.

    Example:
        >>> of_several("difference", [{"model": "base"}, {"model": "tuned"}])["of"]["kind"]
        'difference'
    """
    of = {"kind": kind, "models": [dict(each) for each in models]}
    return {OF: of, "model": None, "revision": None}


def require_one_model(meta: Mapping[str, Any], asked: str) -> None:
    """Refuses a dictionary of several models where one of a single model is wanted.

    The latents of one on differences do not mean what they would on either model's activations,
    though the width is the same.

    Args:
        meta: What the dictionary says of itself, from `sae.read`.
        asked: What it is wanted for.

    Raises:
        ConfigError: It is of several models.
    """
    of = meta.get(OF)
    if of is not None:
        names = " and ".join(each.get("model") or "an unnamed model" for each in of["models"])
        do = "give a dictionary fitted on one model"
        raise ConfigError(asked, f"a {of['kind']} of {names}", do)
