"""Dictionaries on the base model's own activations: what is called changed where no model is.

A *control* needs no second model, so any pair of models can have it. The base dictionary continued
once more, with another seed, keeps the index of every latent. One fitted with another seed does
not, and its latents are matched one to one to the reference's by where they fire. Controls moved by
nothing, so they are held against the null that moved least, and beside it against those that tuned
models are held against. They set no threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from analysis.fates.decide import decide
from analysis.fates.error_rates import error_rates
from analysis.fates.nulls import Null
from analysis.fates.subjects import Reference
from analysis.latents.bench import Bench, through
from analysis.latents.coordinates import Coordinates, measure
from analysis.latents.matching import standing
from analysis.latents.pairs import Pair
from analysis.latents.traces import Firing
from analysis.statistics.matrices import cofiring, cosines
from sae import read
from sae.dictionary.sae import Sae
from sae.errors import ConfigError, InputError
from sae.formats.subject import require_one_model

__all__ = ["Control", "Controlled", "judge_control", "lay_control", "open_control", "partners"]

TIE = 1e-3
"""Weight of a cosine beside a Dice overlap: it decides between latents that fire as much alike."""


@dataclass(frozen=True)
class Control:
    """A second dictionary of the base model."""

    name: str
    """Its name on the page."""
    path: Path
    """Its folder."""
    matched: bool
    """Whether its latents are to be matched by firing, since it does not continue the reference."""


@dataclass(frozen=True, eq=False)
class Controlled:
    """What is said of the latents of a control."""

    control: Control
    """Which one."""
    errors: Mapping[str, pd.DataFrame]
    """What `error_rates` says of it, by the null it was held against, the one that moved least
    first; empty where no null sets thresholds."""


def open_control(
    control: Control, dictionary: tuple[Sae, Mapping[str, object]], reference: Sae
) -> Sae:
    """The dictionary of a control, once it is seen to be one.

    Args:
        control: Which one.
        dictionary: The base dictionary, and what it says of itself.
        reference: The base dictionary continued on the base's own activations.

    Raises:
        ConfigError: It is of another model, hook or width, or it is the reference itself.
        InputError: It is missing or damaged, or has fewer latents than the base dictionary.
    """
    base, told = dictionary
    found, meta = read(control.path)
    asked, do = f"{control.path} as a control", "fit or continue it on the base model"
    require_one_model(meta, asked)
    for key in ("hook", "model_sha256"):
        if None not in (meta.get(key), told.get(key)) and meta[key] != told[key]:
            raise ConfigError(asked, f"{key} {meta[key]}, not {told[key]}", do)
    if found.config.d_in != base.config.d_in:
        raise ConfigError(asked, f"width {found.config.d_in}, not {base.config.d_in}", do)
    if found.config.d_sae < base.config.d_sae:
        few = f"{found.config.d_sae} latents for {base.config.d_sae} in the base's"
        raise InputError(asked, few, "give a dictionary at least as wide")
    if np.array_equal(found.W_dec.detach().numpy(), reference.W_dec.detach().numpy()):
        do = "continue it with another --train.seed"
        raise ConfigError(asked, "the reference itself, which cannot differ", do)
    return found


def partners(
    reference: Firing, other: Firing, n: int, tokens: Bool[np.ndarray, " n_tokens"]
) -> Int[np.ndarray, " n"]:
    """The latent of another dictionary that stands for each latent of the reference, one to one.

    The assignment with the largest sum of Dice overlaps of firing, and a thousandth of the cosines
    of decoder rows, which settle ties (Kuhn 1955, as `scipy.optimize.linear_sum_assignment` has
    it). An index means nothing.

    Args:
        reference: Firing of the reference.
        other: Firing of the other dictionary on the same tokens.
        n: Latents of the reference that want a partner, the first ones.
        tokens: On which tokens firing is compared.

    Returns:
        Indices into the other dictionary, no two the same.
    """
    here = np.flatnonzero(tokens)
    mine = sparse.csr_array(sparse.csr_array(reference.z[here])[:, :n])
    likeness = cofiring(mine, sparse.csr_array(other.z[here])).astype(float)
    likeness += TIE * cosines(reference.rows[:n], other.rows)
    return linear_sum_assignment(likeness, maximize=True)[1].astype(np.int64)


def _reordered(firing: Firing, first: Int[np.ndarray, " n"]) -> Firing:
    """The same latents, those of `first` in front, the others after them."""
    order = np.concatenate([first, np.setdiff1d(np.arange(len(firing.rows)), first)])
    return firing.of(order)


def lay_control(
    bench: Bench, reference: Reference, control: Control, dictionary: Sae
) -> Coordinates:
    """The coordinates of every base latent in a control, on the base model's own activations.

    A matched control is matched on the tokens of split select, and measured on all that count, so
    that on half of them the match had no say. Of one that continues the reference each latent is
    looked for as in a tuned model (`standing`), but none is read again by the dictionary as it was:
    on the base's own activations that is the reference itself.

    Args:
        bench: Tokens, and the base model's side.
        reference: The base dictionary, and it continued on the base.
        control: Which control.
        dictionary: From `open_control`.
    """
    found, n, before = through(bench, dictionary, bench.x), reference.n, reference.continued
    blocks, weights, strata = bench.blocks, bench.weights, bench.strata
    if control.matched:
        found = _reordered(found, partners(before, found, n, bench.in_split("select")))
        return measure(Pair(before, found, n), blocks, weights, strata, reference.steady)
    return measure(standing(before, found, n), blocks, weights, strata, reference.steady)


def judge_control(
    control: Control,
    coordinates: Coordinates,
    nulls: Sequence[Null],
    personas: pd.DataFrame,
    used: Sequence[Null] = (),
) -> Controlled:
    """What the rule for tuned models says of a control; every call of a change is a false one.

    Args:
        control: Which one.
        coordinates: From `lay_control`.
        nulls: Those that set thresholds; the one that moved least is nearest to a control's 0.
        personas: The selected personas.
        used: Those that tuned models were held against, whose thresholds are as good as this says.
    """
    least = min(nulls, key=lambda each: each.change, default=None)
    against = {each.name: each for each in ([least] if least else []) + list(used)}
    return Controlled(
        control,
        {
            name: error_rates(decide(coordinates, null, personas, control.name))
            for name, null in against.items()
        },
    )
