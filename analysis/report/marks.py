"""How a fate, a number and a token look wherever they are shown: cards, figures, the report."""

import math
import unicodedata
from dataclasses import dataclass

__all__ = ["FATE_CLASSES", "FATE_MARKS", "Mark", "mark_of", "percent", "three", "visible"]


@dataclass(frozen=True)
class Mark:
    """Glyph, word and colour class of a fate; colour never stands alone."""

    glyph: str
    """One character."""
    word: str
    """The fate in words."""
    css: str
    """Class of fates with one colour; the custom property is `--fate-{css}`."""


FATE_MARKS = {
    "preserved": Mark("=", "preserved", "preserved"),
    "amplified": Mark("▲", "amplified", "amplified"),
    "suppressed": Mark("▼", "suppressed", "suppressed"),
    "re_gated": Mark("◇", "re-gated", "repurposed"),
    "re_wired": Mark("◇", "re-wired", "repurposed"),
    "rotated": Mark("◇", "rotated", "repurposed"),
    "lost": Mark("×", "lost", "lost"),
    "novel_in_span": Mark("+", "novel, in span", "novel"),
    "novel_out_of_span": Mark("+", "novel, out of span", "novel"),
    "split": Mark("÷", "split", "open"),
    "unstable": Mark("~", "unstable", "open"),
    "undetermined": Mark("?", "undetermined", "open"),
}
"""Every fate with its mark, in the order in which fates are shown."""
FATE_CLASSES = {
    "preserved": Mark("=", "preserved", "preserved"),
    "amplified": Mark("▲", "amplified", "amplified"),
    "suppressed": Mark("▼", "suppressed", "suppressed"),
    "repurposed": Mark("◇", "repurposed", "repurposed"),
    "lost": Mark("×", "lost", "lost"),
    "novel": Mark("+", "novel", "novel"),
    "open": Mark("?", "undetermined, unstable or split", "open"),
}
"""Fates as drawn: those that share a colour are one class."""


def mark_of(fate: object) -> Mark:
    """Mark of a fate; an unknown name keeps its own words.

    Args:
        fate: Name of the fate, as in `fates.parquet`.

    Returns:
        The mark.

    Example:
        >>> mark_of("re_gated").word, mark_of("lost").glyph
        ('re-gated', '×')
    """
    return FATE_MARKS.get(str(fate), Mark("?", str(fate).replace("_", " "), "open"))


def _number(value: object) -> float:
    try:
        return float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return math.nan


def three(value: object) -> str:
    """A number with three significant digits; integers whole; what is missing is "n/a", never 0.

    Args:
        value: A number, or anything else.

    Returns:
        The text.

    Example:
        >>> [three(x) for x in (0.12345, 1234567, 12345.6, 0.00001234, None, float("nan"), 0)]
        ['0.123', '1,234,567', '12,300', '1.23e-05', 'n/a', 'n/a', '0']
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    number = _number(value)
    if math.isnan(number):
        return "n/a"
    if number == 0 or math.isinf(number):
        return f"{number:g}".replace("-", "−")
    size = math.floor(math.log10(abs(float(f"{number:.2e}"))))
    if size < -4 or size > 8:
        return f"{number:.2e}".replace("-", "−", 1) if number < 0 else f"{number:.2e}"
    rounded = round(number, 2 - size)
    return f"{rounded:,.{max(0, 2 - size)}f}".replace("-", "−")


def percent(value: object) -> str:
    """A share as a percentage with three significant digits.

    Args:
        value: A share, 0 to 1.

    Returns:
        The text.

    Example:
        >>> percent(0.1234), percent(None), percent(1)
        ('12.3 %', 'n/a', '100 %')
    """
    number = _number(value)
    return "n/a" if math.isnan(number) else f"{three(100 * number).removesuffix('.00')} %"


def visible(token: str, limit: int = 60) -> str:
    r"""A token as it can be shown in a line: nothing invisible, nothing endless.

    Args:
        token: The token's text.
        limit: Characters shown of a long one.

    Returns:
        Text in which line breaks and tabs are marks, and characters that are invisible or turn the
        direction of writing are spelled as code points.

    Example:
        >>> visible("a\n"), visible("x\u202ey"), visible("z" * 99, limit=5)
        ('a↵', 'x⟨U+202E⟩y', 'zzzzz…⟨99 characters⟩')
    """
    shown = token if len(token) <= limit else token[:limit]
    if not shown.isprintable():
        shown = "".join(each if each.isprintable() else _spelled(each) for each in shown)
    return shown if len(token) <= limit else f"{shown}…⟨{len(token):,} characters⟩"


def _spelled(character: str) -> str:
    if character in "\n\r":
        return "↵"
    if character == "\t":
        return "⇥"
    hidden = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return f"⟨U+{ord(character):04X}⟩" if hidden else character
