"""tokens -> activations: residual vectors from one plain forward pass."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae.errors import ConfigError, InputError
from sae.stream.model import SITES, LanguageModel
from sae.stream.tokens import TokenizedText

__all__ = [
    "HookPoint",
    "activations",
    "harvest",
    "logits",
    "logits_with",
    "outliers",
    "padded",
    "tapped",
]

Tap = Callable[[Float[Tensor, "b p d"]], Float[Tensor, "b p d"] | None]


@dataclass(frozen=True)
class HookPoint:
    """A place in the residual stream, in the names of TransformerLens.

    ``resid_pre`` is what a layer reads and ``resid_post`` what it leaves behind. In the numbering
    of Hugging Face ``hidden_states[N + 1]`` is the ``resid_post`` of layer N, save for the last
    entry, which has the final norm applied.

    Raises:
        ConfigError: The layer is negative or the site unknown.

    Example:
        >>> str(HookPoint(3, "resid_post"))
        'blocks.3.hook_resid_post'
    """

    layer: int
    """Number of the layer, 0 for the first."""
    site: str
    """One of resid_pre and resid_post."""

    def __post_init__(self) -> None:
        if self.layer < 0 or self.site not in SITES:
            raise _no_hook(str(self))

    def __str__(self) -> str:
        return f"blocks.{self.layer}.hook_{self.site}"

    @property
    def order(self) -> tuple[int, int]:
        """Key that sorts hooks into the order in which a model computes them."""
        return self.layer, SITES.index(self.site)

    @classmethod
    def parse(cls, name: str) -> "HookPoint":
        """The hook of that name; whether a model has it is known when it is used.

        Raises:
            ConfigError: The name is not of the form ``blocks.LAYER.hook_SITE``.

        Example:
            >>> HookPoint.parse("blocks.3.hook_resid_pre")
            HookPoint(layer=3, site='resid_pre')
        """
        blocks, _, rest = name.partition(".")
        layer, _, site = rest.partition(".hook_")
        if blocks != "blocks" or not (layer.isascii() and layer.isdecimal()):
            raise _no_hook(name)
        return cls(int(layer), site)


@torch.no_grad()
def activations(
    model: LanguageModel,
    ids: Int[Tensor, "b p"],
    mask: Bool[Tensor, "b p"],
    hooks: Sequence[HookPoint],
) -> dict[HookPoint, Float[Tensor, "b p d"]]:
    """Residual vectors at the hooks, from one forward pass that stops after the last of them.

    Args:
        model: The model, on any device.
        ids: Token ids, padded on the right.
        mask: True where a token is real; what comes out at the others means nothing.
        hooks: Where to look; the answer has the same order.

    Returns:
        Vectors as the model computed them, unscaled, in its own type, on its device.

    Raises:
        ConfigError: A hook does not exist in the model; the message names those that do.
        InputError: A vector of a real token is not finite, or the model skipped a hook.
    """
    caught: dict[HookPoint, Tensor] = {}
    last = max(hooks, key=lambda hook: hook.order)

    def catch(hook: HookPoint, x: Float[Tensor, "b p d"]) -> None:
        caught[hook] = x
        if hook == last:
            raise _Stop

    with suppress(_Stop):
        _forward(model, ids, mask, {hook: partial(catch, hook) for hook in hooks})
    for hook in hooks:
        if hook not in caught:
            raise InputError(f"{hook} of {model.name}", "a pass without it", "use another hook")
        if not caught[hook][mask.to(model.device)].isfinite().all():
            found = "NaN or infinite activations"
            raise InputError(f"{hook} of {model.name}", found, "check the weights and their type")
    return {hook: caught[hook] for hook in hooks}


def harvest(
    model: LanguageModel,
    text: TokenizedText,
    hooks: Sequence[HookPoint],
    batch_documents: int = 32,
) -> Iterator[tuple[slice, dict[HookPoint, Float[Tensor, "n d"]]]]:
    """Residual vectors of every token of a text, batch by batch, in the order of its table.

    All tokens count, special and template tokens among them; padding never comes out.

    Yields:
        Rows of ``text.table`` and for every hook the vectors of these rows, unscaled float32 on
        the device of the model.

    Raises:
        ConfigError: As `activations`.
        InputError: As `activations`.
    """
    for first in range(0, len(text.ids), batch_documents):
        batch = text.ids[first : first + batch_documents]
        ids, mask = padded(batch)
        found = activations(model, ids, mask, hooks)
        rows = slice(int(text.starts[first]), int(text.starts[first + len(batch)]))
        kept = mask.to(model.device)
        yield rows, {hook: x[kept].float() for hook, x in found.items()}


@torch.no_grad()
def logits(
    model: LanguageModel, ids: Int[Tensor, "b p"], mask: Bool[Tensor, "b p"]
) -> Float[Tensor, "b p v"]:
    """Logits of the next token after every token; at padding they mean nothing."""
    return _forward(model, ids, mask, {})


def logits_with(
    model: LanguageModel,
    ids: Int[Tensor, "b p"],
    mask: Bool[Tensor, "b p"],
    hook: HookPoint,
    replace: Callable[[Float[Tensor, "b p d"]], Float[Tensor, "b p d"]],
    differentiable: bool = False,
) -> Float[Tensor, "b p v"]:
    """Logits when the residual vectors at a hook are replaced, padding among them.

    Args:
        model: The model; nothing of it is changed, and no gradient reaches its weights.
        ids: Token ids, padded on the right.
        mask: True where a token is real.
        hook: Where to intervene.
        replace: From residual vectors ``[b p d]`` to those that take their place.
        differentiable: Whether gradients reach what `replace` gave, through the layers after it.

    Raises:
        ConfigError: The hook does not exist in the model; the message names those that do.
    """
    with torch.set_grad_enabled(differentiable), _frozen(model):
        return _forward(model, ids, mask, {hook: replace})


def outliers(x: Float[Tensor, "n d"], factor: float = 10.0) -> Bool[Tensor, " n"]:
    """Tokens whose vector is longer than ``factor`` times the median length over ``x``.

    Attention sinks have norms of a hundred times the usual and would rule scale, loss and top
    lists. All tokens given count for the median.

    Example:
        >>> outliers(torch.tensor([[1.0], [2.0], [-50.0]])).tolist()
        [False, False, True]
    """
    norms = x.norm(dim=1)
    return norms > factor * norms.median() if len(norms) else norms > 0


def padded(
    ids: Sequence[Int[np.ndarray, " _"]],
) -> tuple[Int[Tensor, "b p"], Bool[Tensor, "b p"]]:
    """Sequences as one batch, padded on the right with id 0, and where it holds real tokens.

    Example:
        >>> batch, mask = padded([np.array([5, 6]), np.array([7])])
        >>> batch.tolist(), mask.tolist()
        ([[5, 6], [7, 0]], [[True, True], [True, False]])
    """
    lengths = torch.tensor([len(row) for row in ids])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    batch = torch.zeros(mask.shape, dtype=torch.int64)
    batch[mask] = torch.from_numpy(np.concatenate(ids))
    return batch, mask


class _Stop(Exception):
    """Ends a forward pass whose rest is not needed."""


def _no_hook(name: str, available: Sequence[str] = ()) -> ConfigError:
    names = available or [f"blocks.LAYER.hook_{site}" for site in SITES]
    nearest = (get_close_matches(name, names, n=1, cutoff=0) or names)[0]
    return ConfigError(f"hook {name}", f"hooks are {', '.join(names)}", f"nearest is {nearest}")


def _forward(
    model: LanguageModel,
    ids: Int[Tensor, "b p"],
    mask: Bool[Tensor, "b p"],
    taps: Mapping[HookPoint, Tap],
) -> Float[Tensor, "b p v"]:
    with ExitStack() as stack:
        for hook, tap in taps.items():
            stack.enter_context(tapped(model, hook, tap))
        return model.module(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device, torch.int64),
            use_cache=False,
        ).logits


@contextmanager
def _frozen(model: LanguageModel) -> Iterator[None]:
    """No graph of the model's weights is made: it would be held, and never used."""
    free = [each for each in model.module.parameters() if each.requires_grad]
    try:
        for each in free:
            each.requires_grad_(False)
        yield
    finally:
        for each in free:
            each.requires_grad_(True)


@contextmanager
def tapped(model: LanguageModel, hook: HookPoint, tap: Tap) -> Iterator[None]:
    """Show ``tap`` the residual vectors at a hook, and put its answer in their place, if any."""
    available = model.hooks
    if str(hook) not in available:
        raise _no_hook(f"{hook} of {model.name}", available)
    layer = model.layers[hook.layer]

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (_answer(tap, args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": _answer(tap, kwargs["hidden_states"])}

    def after(_: Any, __: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (_answer(tap, output[0]), *output[1:])
        return _answer(tap, output)

    if hook.site == "resid_pre":
        handle = layer.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = layer.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def _answer(tap: Tap, x: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
    y = tap(x)
    return x if y is None else y.to(x)
