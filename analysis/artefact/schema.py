"""What `summary.json` holds, key by key.

A number that was not measured is null, never 0; an interval holds its value.
"""

from dataclasses import dataclass
from typing import Any

from analysis.artefact.keys import Kind, holds

__all__ = ["Arm", "Base", "Context", "ControlRates", "Dictionary", "ErrorRate", "Measured"]
__all__ += ["Persona", "Power", "Size", "SpanDifference", "Spread", "Summary"]


def _share(**more: Any) -> Any:
    return holds("number", 0, 1, **more)


@dataclass(frozen=True)
class Measured:
    """An estimate with its 95 % interval and, where it has one, the central 95 % of its null."""

    value: float | None = holds("number")
    """The estimate."""
    low: float | None = holds("number", default=None)
    """Lower limit of the interval."""
    high: float | None = holds("number", default=None)
    """Upper limit of the interval."""
    null_low: float | None = holds("number", default=None)
    """Where the null's range begins; null where only its upper end means something."""
    null_high: float | None = holds("number", default=None)
    """Where the null's range ends."""


@dataclass(frozen=True)
class Dictionary:
    """The base model's dictionary on held-out documents."""

    fvu: float | None = holds("number", 0)
    """Fraction of variance unexplained."""
    l0: float | None = holds("number", 0)
    """Latents firing a token."""
    ce_recovered: float | None = holds("number")
    """Share of cross-entropy kept under reconstruction; 0 is mean ablation, 1 no loss."""
    dead_fraction: float | None = _share()
    """Share of latents that never fire."""


@dataclass(frozen=True)
class Base:
    """The base language model."""

    ce: float | None = holds("number", 0)
    """Cross-entropy on held-out text; unit: nats a token."""
    ideal_ce: float | None = holds("number", 0, default=None)
    """That of the ideal observer, the best that any model could reach."""


@dataclass(frozen=True)
class Persona:
    """A persona and the base latent that carries it, scored on documents it was not chosen on."""

    latent: int | None = holds("count")
    """Its best latent; null where none was carried to confirmation."""
    auroc: float | None = _share()
    """AUROC of the latent within matched tokens."""
    auroc_low: float | None = _share(default=None)
    """Lower limit of its interval."""
    auroc_high: float | None = _share(default=None)
    """Upper limit of its interval."""
    probe_auroc: float | None = _share(default=None)
    """AUROC of a linear probe on the same activations."""
    ideal_auroc: float | None = _share(default=None)
    """AUROC of the ideal observer's posterior."""
    q_value: float | None = _share(default=None)
    """False discovery rate at which the latent is confirmed."""
    confirmed: bool | None = holds("flag", default=None)
    """Whether q is at most 0.05."""


@dataclass(frozen=True)
class Spread:
    """A number of every persona: no interval, but how far personas lie apart."""

    value: float | None = holds("number")
    """Median over personas."""
    low: float | None = holds("number", default=None)
    """That of the least."""
    high: float | None = holds("number", default=None)
    """That of the greatest."""


@dataclass(frozen=True)
class Context:
    """How well personas are told apart in one kind of document; AUROC as for `Persona`."""

    n_tokens: int = holds("count", 0)
    """Labelled tokens of the confirm split."""
    n_personas: int = holds("count", 0)
    """Personas met there."""
    chosen_here: bool = holds("flag")
    """Whether latents and probe were chosen on documents of this kind."""
    latent: Spread | None = holds(Spread, 0, 1, default=None)
    """Of each persona's best latent."""
    probe: Spread | None = holds(Spread, 0, 1, default=None)
    """Of the linear probe."""
    ideal: Spread | None = holds(Spread, 0, 1, default=None)
    """Of the ideal observer."""


@dataclass(frozen=True)
class Size:
    """How far an arm moved from the base model."""

    weights: float | None = holds("number", 0, default=None)
    """Norm of the change of weights over the norm of the weights."""
    activations: float | None = holds("number", 0, default=None)
    """Norm of the change of activations on neutral text over that of the centred activations."""
    kl: float | None = holds("number", 0, default=None)
    """Mean KL(base, tuned) of next-token predictions on neutral text; unit: nats a token."""


@dataclass(frozen=True)
class Arm:
    """A tuned model: an arm of the comparison, a null, or a pole."""

    fates: dict[str, int] = holds("count", 0, many="map", default_factory=dict)
    """Number of latents of every fate."""
    repurposed_share: Measured | None = holds(Measured, 0, 1, default=None)
    """Share of confirmed persona latents that are re-gated, re-wired or rotated."""
    novel_share: Measured | None = holds(Measured, 0, 1, default=None)
    """Share of the live latents of the arm's dictionary that are novel."""
    in_span_share: Measured | None = holds(Measured, 0, 1, default=None)
    """Share of the arm's shift inside the span of persona latents; null: random subspaces."""
    in_span_share_likes: Measured | None = holds(Measured, 0, 1, default=None)
    """The same share; null: spans of the rank of as many other latents that fire as often."""
    in_contrast_span_share: Measured | None = holds(Measured, 0, 1, default=None)
    """The same for the span of the personas' mean activations."""
    in_dialect_span_share: Measured | None = holds(Measured, 0, 1, default=None)
    """The same for that of dialects, a factor of the text that is no persona."""
    mean_shift: Measured | None = holds(Measured, 0, 1, default=None)
    """Share of how far held-out activations moved that is one constant vector; null: the null's
    checkpoints."""
    unstable_subspace: dict[str, Measured] = holds(Measured, many="map", default_factory=dict)
    """Agreement and gain of the subspace of unstable latents (`analysis.fates.subspaces`); empty
    where there is none."""
    fidelity_fvu: Measured | None = holds(Measured, 0, default=None)
    """FVU of the base dictionary on the arm's activations; null: the null's checkpoint."""
    kl_shares: dict[str, Measured] = holds(Measured, many="map", default_factory=dict)
    """Share of KL(base || tuned) on held-out text that each part of the difference at the hook
    accounts for, one taken after another in this order, and last `layers_above`; null: the same of
    the null's checkpoints. Empty without language models."""
    persona_kl_share: Measured | None = holds(Measured, default=None)
    """Share of KL(base || tuned) that re-weighting the confirmed persona latents alone accounts
    for; null: sets of as many others of like fire rate."""
    behaviour: dict[str, Any] = holds("any", many="map", default_factory=dict)
    """What the arm does, by name: numbers, text or measured values."""
    early_excess: Measured | None = holds(Measured, default=None)
    """Loss on held-out text of its kind above that of an observer who knows the persona, mean over
    the first quarter of its tuning; unit: nats a token. Null where it is no persona's."""
    size: Size = holds(Size, default=Size())
    """How far it moved."""
    learned: bool | None = holds("flag", default=None)
    """Whether it learned what it was tuned to do; null where the question does not arise."""
    null: str | None = holds("text", default=None)
    """Checkpoint of the null with which it is compared; null where no null moved as far."""
    kind: str = holds("text", default="arm")
    """What it is: "arm", "null" or "pole"."""
    is_contrast: bool = holds("flag", default=True)
    """Whether the verdict holds it against the first arm; not one that repeats that, or is there
    for the study or an experiment."""
    about: str | None = holds("text", default=None)
    """What it was tuned on, in one sentence."""

    @property
    def no_verdict(self) -> str | None:
        """Why no verdict is given on it, or None where one is."""
        if self.kind != "arm":
            return self.kind
        if self.learned is False:
            return "did not learn its task"
        return None if self.null else "no null moved as far"


@dataclass(frozen=True)
class SpanDifference:
    """In-span share of one arm minus that of another, on the same documents at the nearest KL."""

    text: str = holds("text")
    """Name of the text on which both were measured."""
    pair: list[str] = holds("text", many="list")
    """The two arms; the second is subtracted."""
    value: float | None = holds("number", -1, 1)
    """The difference."""
    low: float | None = holds("number", default=None)
    """Lower limit of its interval."""
    high: float | None = holds("number", default=None)
    """Upper limit of its interval."""
    excludes_zero: bool | None = holds("flag", default=None)
    """Whether the interval lies on one side of 0."""
    checkpoints: list[str] = holds("text", many="list", default_factory=list)
    """The checkpoint of either arm at which their KL from base matches."""
    kl: list[float] = holds("number", 0, many="list", default_factory=list)
    """KL of either there, from the model that it was tuned from, on neutral text."""
    null_low: float | None = holds("number", default=None)
    """Where the central 95 % of the same difference for random subspaces begins."""
    null_high: float | None = holds("number", default=None)
    """Where it ends."""


@dataclass(frozen=True)
class ErrorRate:
    """What was said of one family of latents where nothing of interest happened."""

    n: int = holds("count", 0)
    """Latents of the family."""
    changed: Measured = holds(Measured, 0, 1)
    """Share called changed: false calls."""
    preserved: Measured | None = holds(Measured, 0, 1, default=None)
    """Share called preserved: right calls."""


@dataclass(frozen=True)
class ControlRates:
    """A second dictionary of the base model, where every call of a change is the dictionary's."""

    matched: bool = holds("flag")
    """Whether its latents were matched by firing, for they share no index with the reference."""
    error_rates: dict[str, dict[str, ErrorRate]] = holds(
        Kind(ErrorRate, many="map"), many="map", default_factory=dict
    )
    """By the null that it was held against, the one that moved least first, then by family; empty
    where no null sets thresholds."""


@dataclass(frozen=True)
class Power:
    """The smallest change that an arm's null lets one see."""

    n_null: int | None = holds("count", 0, default=None)
    """Latents in the smallest bin of the null."""
    smallest_p: float | None = _share(default=None)
    """Smallest p-value that the null can give."""
    direction: float | None = holds("number", -1, 1, default=None)
    """A cosine below this can be called changed."""
    gain: float | None = holds("number", 0, default=None)
    """A log ratio of size above this can be called changed."""
    gating: float | None = _share(default=None)
    """A Dice distance above this can be called changed."""
    profile: float | None = _share(default=None)
    """A share of its activation in other strata above this can be called changed."""
    effect: float | None = holds("number", -1, 1, default=None)
    """An agreement of effects below this can be called changed; null where none were measured."""


@dataclass(frozen=True)
class Summary:
    """Everything that a trace concludes, as `summary.json` holds it."""

    dictionary: Dictionary = holds(Dictionary)
    """Quality of the base dictionary."""
    personas: dict[str, Persona] = holds(Persona, many="map")
    """Every persona and its latent."""
    arms: dict[str, Arm] = holds(Arm, many="map")
    """Every tuned model, in the order of the page."""
    reuse_index: dict[str, Measured] = holds(Measured, many="map", default_factory=dict)
    """Reuse index of every arm: 0 as trained from scratch, 1 as the base model."""
    seconds: dict[str, float] = holds("number", 0, many="map", default_factory=dict)
    """Wall time of every stage; unit: seconds."""
    base: Base = holds(Base, default=Base(None))
    """The base model."""
    span: list[SpanDifference] = holds(SpanDifference, many="list", default_factory=list)
    """Differences of in-span share between arms."""
    error_rates: dict[str, dict[str, ErrorRate]] = holds(
        Kind(ErrorRate, many="map"), many="map", default_factory=dict
    )
    """By held-back null, then by family ("persona" or "all")."""
    controls: dict[str, ControlRates] = holds(ControlRates, many="map", default_factory=dict)
    """By control; they set no threshold."""
    power: dict[str, Power] = holds(Power, many="map", default_factory=dict)
    """By arm."""
    contexts: dict[str, Context] = holds(Context, many="map", default_factory=dict)
    """How well personas are told apart, by kind of document."""
    evidence: dict[str, Measured] = holds(Measured, many="map", default_factory=dict)
    """What arms of an experiment show (`analysis.study.experiments.evidence`), by its name."""
    notes: list[str] = holds("text", many="list", default_factory=list)
    """Sentences that a reader must know."""
    seeds: dict[str, Any] = holds("any", many="map", default_factory=dict)
    """Every seed by what it seeds."""
    label: str = holds("text", default="documents only")
    """What the intervals resample."""
