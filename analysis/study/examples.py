"""Where a latent fires, in words: the same text through both models, peak by peak.

Top snippets alone hide a latent that fires on many things, so some near its threshold are shown
too, and some of its persona's tokens on which it stays silent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from scipy import sparse

from analysis.artefact.names import EXAMPLE_COLUMNS
from analysis.statistics.matrices import shape
from sae.errors import InputError

__all__ = ["ExamplesConfig", "examples"]


@dataclass(frozen=True)
class ExamplesConfig:
    """How many snippets are kept, and how long they are."""

    n_top: int = 6
    """Snippets by either model's largest firing."""
    n_other: int = 2
    """Snippets near the threshold, and silent ones."""
    window: int = 12
    """Tokens shown on either side of the peak."""


def examples(
    base: sparse.csr_array,
    tuned: sparse.csr_array,
    tokens: pd.DataFrame,
    latents: Sequence[int] | Mapping[int, str],
    name: str,
    config: ExamplesConfig | None = None,
) -> pd.DataFrame:
    """Snippets of some latents, each with the activations of both models over the same tokens.

    Args:
        base: Latents in the base model [n_tokens, d_sae], activation units.
        tuned: Latents in the tuned model on the same tokens.
        tokens: Token table, one row a token, documents one after another. Template, special and
            outlying tokens are never a peak; they are shown where they lie within the window.
        latents: Which latents; as a mapping, each with the persona whose silent tokens are shown.
        name: Name of the tuned model.
        config: Sizes.

    Returns:
        `examples.parquet`: one row a snippet. No two snippets of one latent and group share a
        document or their words. Ties go to the earlier token.

    Raises:
        InputError: The latents and the table differ in their number of tokens.
    """
    if not len(tokens) == shape(base)[0] == shape(tuned)[0]:
        raise InputError(
            "latents of both models on every token of the table",
            f"{shape(base)[0]}, {shape(tuned)[0]} and {len(tokens)} tokens",
            "run both models on this table, whole",
        )
    text = _Text.of(tokens)
    chosen = [int(latent) for latent in latents]
    columns = [sparse.csc_array(z[:, chosen]) for z in (base, tuned)]
    rows = []
    for place, latent in enumerate(chosen):
        pair = [_dense(z, place) for z in columns]
        persona = latents[latent] if isinstance(latents, Mapping) else None
        for which, rank, peak in _peaks(pair, text, persona, config or ExamplesConfig()):
            snippet = text.snippet(peak, (config or ExamplesConfig()).window, pair)
            rows.append({"tuned": name, "latent": latent, "rank": rank, "which": which, **snippet})
    return pd.DataFrame(rows, columns=list(EXAMPLE_COLUMNS))


def _dense(z: sparse.csc_array, place: int) -> np.ndarray:
    out = np.zeros(shape(z)[0], np.float32)
    part = slice(z.indptr[place], z.indptr[place + 1])
    out[z.indices[part]] = z.data[part]
    return out


@dataclass(frozen=True)
class _Text:
    """The columns of a token table that snippets need, as arrays."""

    tokens: np.ndarray
    doc: np.ndarray
    pos: np.ndarray
    labels: dict[str, np.ndarray]
    starts: Int[np.ndarray, " n_tokens"]
    """Row at which each token's document begins."""
    ends: Int[np.ndarray, " n_tokens"]
    may_peak: Bool[np.ndarray, " n_tokens"]

    @classmethod
    def of(cls, table: pd.DataFrame) -> "_Text":
        doc = table["doc"].to_numpy()
        n = len(doc)
        firsts = np.flatnonzero(np.r_[True, doc[1:] != doc[:-1]]) if n else np.zeros(0, int)
        document = np.searchsorted(firsts, np.arange(n), side="right") - 1
        may_peak = np.ones(n, bool)
        for flag in ("is_template", "is_special", "is_outlier"):
            if flag in table:
                may_peak &= ~table[flag].fillna(False).to_numpy(bool)
        return cls(
            tokens=table["token"].astype(str).to_numpy(object),
            doc=doc,
            pos=table["pos"].to_numpy(),
            labels={c: table[c].astype(str).to_numpy() for c in ("role", "context", "persona")},
            starts=firsts[document],
            ends=np.r_[firsts[1:], n][document],
            may_peak=may_peak,
        )

    def span(self, peak: int, window: int) -> slice:
        """Rows around a peak, within its document."""
        return slice(max(self.starts[peak], peak - window), min(self.ends[peak], peak + window + 1))

    def snippet(self, peak: int, window: int, pair: list[np.ndarray]) -> dict[str, object]:
        """A row of the table without its first four columns."""
        span = self.span(peak, window)
        return {
            "doc": self.doc[peak],
            "pos": int(self.pos[peak]),
            "start": int(self.pos[peak]) - (peak - int(span.start)),
            "tokens": self.tokens[span].tolist(),
            "z_base": pair[0][span].tolist(),
            "z_tuned": pair[1][span].tolist(),
            **{column: values[peak] for column, values in self.labels.items()},
        }


def _peaks(
    pair: list[np.ndarray], text: _Text, persona: str | None, config: ExamplesConfig
) -> Iterator[tuple[str, int, int]]:
    """Group, rank and row of every snippet of one latent."""
    base, tuned = pair
    wanted = {
        "base": (_strongest(base, text), config.n_top),
        "tuned": (_strongest(tuned, text), config.n_top),
        "near": (_strongest(base, text)[::-1], config.n_other),
    }
    if persona is not None:
        silent = (base <= 0) & (tuned <= 0) & text.may_peak & (text.labels["persona"] == persona)
        # In the order of a fixed hash, so that they come from all over the text.
        rows = np.flatnonzero(silent)
        wanted["silent"] = (rows[np.argsort(rows * 2654435761 % 2**32)], config.n_other)
    for which, (rows, n) in wanted.items():
        for rank, row in enumerate(_distinct(rows, text, n, config.window)):
            yield which, rank, row


def _strongest(z: np.ndarray, text: _Text) -> np.ndarray:
    rows = np.flatnonzero((z > 0) & text.may_peak)
    return rows[np.argsort(-z[rows], kind="stable")]


def _distinct(rows: np.ndarray, text: _Text, n: int, window: int) -> Iterator[int]:
    """The first n rows of different documents whose windows hold different words."""
    documents, words = set(), set()
    for row in rows.tolist():
        here = tuple(text.tokens[text.span(row, window)])
        if text.doc[row] in documents or here in words:
            continue
        documents.add(text.doc[row])
        words.add(here)
        yield row
        if len(documents) == n:
            return
