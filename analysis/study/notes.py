"""What a reader of a trace must know before any number of it."""

from collections.abc import Iterator

import numpy as np

from analysis.fates.rule import Rule
from analysis.fates.verdicts import Verdict
from analysis.study.comparing import Comparison
from analysis.study.tracing import Study

__all__ = ["notes"]

MUCH = float(np.log(1.1))  # gain of the median latent that is told


def notes(study: Study, comparison: Comparison) -> list[str]:
    """Sentences about a whole study.

    Args:
        study: The study.
        comparison: Of its models.
    """
    confirmed = int(np.count_nonzero(study.carriers.best()["confirmed"].to_numpy(bool)))
    found = [*_of_nulls(study), *_of_gains(study)]
    if not confirmed:
        found.insert(
            0,
            "No persona latent was confirmed, so there is no span and no reuse index; all that is"
            " novel counts as outside.",
        )
    if study.config.pole and confirmed and not comparison.reuse:
        few = "too few latents to match persona latents with"
        why = few if comparison.texts else "no assistant speaks"
        found.append(f"The reuse index has no scale: {why}.")
    told = {name for name, _ in comparison.shares}
    asked = study.seen if comparison.texts and study.spans else ()
    alike = [name for name in asked if name not in told]
    found.extend(
        f"{name} differs by nothing but one vector that all assistant tokens share, if by that:"
        " shares are not measurable."
        for name in alike
    )
    if comparison.reuse and all(np.isnan(each.value) for each in comparison.reuse.values()):
        found.append("The reuse index has no scale: its two poles are not told apart.")
    return found


def _of_nulls(study: Study) -> Iterator[str]:
    without = [name for name, verdict in study.verdicts.items() if verdict.null is None]
    if without:
        names = ", ".join(without)
        why = "No null was given"
        if study.nulls.nulls:
            why = f"No null moved as far as {names}, or too few of its latents have an interval"
        yield f"{why}: every latent of {names} is undetermined."
    if coarse := ", ".join(n for n, each in study.verdicts.items() if _is_coarse(each)):
        yield (
            f"The ranks of the null alone cannot call a single persona latent in {coarse} at q"
            f" {Rule.q:.2f}; calls there lean on the extrapolated tail."
        )


def _is_coarse(verdict: Verdict) -> bool:
    """Whether one persona latent beyond all draws would not be called by ranks alone."""
    judged = verdict.fates[["persona", "q_value"]].notna().to_numpy()
    family = int(np.count_nonzero(judged.all(axis=1)))
    return verdict.null is not None and verdict.null.smallest_p() > Rule.q / max(family, 1)


def _of_gains(study: Study) -> Iterator[str]:
    """What all latents gained of a null, which one of caches is moved to where the model's lie."""
    held = dict[str, list[str]]()
    for name, verdict in study.verdicts.items():
        if verdict.null is None:
            continue
        if abs(middle := float(np.nanmedian(verdict.null.values["gain"]))) >= MUCH:
            held.setdefault(f"{middle:+.2f}", []).append(name)
    for gain, names in held.items():
        verb = "is" if len(names) == 1 else "are"
        yield (
            f"The median latent gained {gain} nats in the null that {', '.join(names)} {verb} held"
            " against: fates say what differs from that."
        )
