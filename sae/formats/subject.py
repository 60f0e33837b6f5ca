"""What a dictionary is of: one model, unless its file says that it is of several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sae.errors import ConfigError

__all__ = ["OF", "of_several", "require_models", "require_one_model"]

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


def require_models(
    path: Path, told: Sequence[Mapping[str, Any]], models: Sequence[tuple[str, str]], do: str
) -> None:
    """Refuses a dictionary that says it was fitted on other weights, or in another order.

    Args:
        path: Where it is.
        told: What it says of each of its models; one that says no hash, as of another library,
            is believed.
        models: Name and hash of the weights of each that is wanted.
        do: The next step.

    Raises:
        ConfigError: A model that it says is another one.
    """
    said, wanted = [each.get("model_sha256") for each in told], [each for _, each in models]
    if len(said) == len(wanted) and all(a in (None, b) for a, b in zip(said, wanted, strict=True)):
        return
    found = " and ".join(each.get("model") or "an unnamed model" for each in told)
    found += ", in that order" if said == wanted[::-1] else ", with other weights"
    raise ConfigError(f"{path} of {' and '.join(name for name, _ in models)}", found, do)
