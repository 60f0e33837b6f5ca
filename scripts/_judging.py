"""Traces to judge claims from, and what is said of these, line by line."""

from pathlib import Path

from analysis.artefact.folder import read_parts
from analysis.hypotheses.arms import Arms
from analysis.hypotheses.judge import Judged
from analysis.hypotheses.parts import Read, verdict_of
from sae.errors import InputError

__all__ = ["lines_of", "read_trace"]

BASES = "model base", "cache base"  # among the inputs of a trace


def read_trace(folder: Path, arm: str, contrast: str) -> Read:
    """A trace that claims can be judged from.

    Args:
        folder: What trace_personas wrote.
        arm: Name of the model tuned into a persona.
        contrast: Of the one tuned to nobody's words.

    Raises:
        InputError: It is no trace, or a damaged one.
    """
    parts = read_parts(folder)
    fates = parts["fates"]
    if fates is None:
        do = "give a folder that trace_personas wrote"
        raise InputError(f"fates.parquet in {folder}", "no such file", do)
    provenance = parts["provenance"]
    inputs = provenance.get("inputs") if isinstance(provenance, dict) else None
    named = [inputs.get(name) for name in BASES] if isinstance(inputs, dict) else []
    model = next((each for each in named if isinstance(each, str)), "")
    return Read(parts["summary"], fates, Arms(arm, nobody=contrast), model)


def lines_of(one: Judged) -> list[str]:
    """What is said of a claim, for a terminal.

    Args:
        one: The claim.
    """
    lines = [f"{one.name:4}{one.verdict:13}{one.claim}"]
    if not one.parts:
        return [*lines, f"{'':17}{one.reason}"]
    for part in one.parts:
        null = ""
        if part.null_high is not None:
            start = "up" if part.null_low is None else f"{part.null_low:.3f}"
            null = f", null {start} to {part.null_high:.3f}"
        numbers = f"{part.value:.3f} [{part.low:.3f}, {part.high:.3f}]{null}"
        lines.append(f"{'':17}{part.about}: {numbers}: {verdict_of(part)}")
    for name, p, holm in (
        ("p", one.p_value, one.holm),
        ("p against", one.against, one.holm_against),
    ):
        if p is not None and holm is not None:
            lines.append(f"{'':17}{name} {p:.3f}, {holm:.3f} corrected for all claims (Holm)")
    why = f" ({one.reason})" if one.reason else ""
    return [*lines, f"{'':17}intervals over {one.over}{why}"]
