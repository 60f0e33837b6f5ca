"""How a dictionary introduces itself."""

import html
from collections.abc import Mapping

from sae.dictionary.config import SaeConfig
from sae.dictionary.jump_relu import JumpRelu
from sae.dictionary.sparsity import Sparsity

__all__ = ["facts", "page"]


def facts(config: SaeConfig, sparsity: Sparsity, input_scale: float) -> dict[str, object]:
    """What there is to know about a dictionary at a glance.

    Args:
        config: Its shape and sparsity.
        sparsity: The module, whose thresholds are told.
        input_scale: Its scale.
    """
    told: dict[str, object] = {"d_in": config.d_in, "d_sae": config.d_sae}
    if config.crosscoder is not None:
        told |= {name: each for name, each in vars(config.crosscoder).items() if each}
    own = {name: value for name, value in vars(config.sparsity).items() if name != "kind"}
    told |= {"sparsity": config.sparsity.kind} | own
    if config.prefixes:
        told["prefixes"] = config.prefixes
    if isinstance(sparsity, JumpRelu):
        each = sparsity.threshold.detach()
        span = f"{each.min().item():.3g} to {each.max().item():.3g}"
        told["thresholds"] = f"{span}, median {each.median().item():.3g}"
    return told | {"input_scale": f"{input_scale:.6g}"}


def page(title: str, told: Mapping[str, object]) -> str:
    """Facts as a static HTML table.

    Args:
        title: Its caption.
        told: Facts by name.

    Example:
        >>> page("Sae", {"d_in": 2})
        '<table><caption>Sae</caption><tbody><tr><th>d_in</th><td>2</td></tr></tbody></table>'
    """
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in told.items()
    )
    return f"<table><caption>{html.escape(title)}</caption><tbody>{rows}</tbody></table>"
