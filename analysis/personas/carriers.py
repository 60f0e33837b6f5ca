"""Which latents carry which persona, beside what a probe finds and what can be known at all."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from jaxtyping import Bool
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from scipy import sparse

from analysis.artefact.checks import read_table
from analysis.latents.bench import Bench
from analysis.latents.traces import Firing
from analysis.personas.select import (
    SelectConfig,
    comparable_tokens,
    probe,
    score_columns,
    select_personas,
)
from analysis.personas.selectivity import auroc, strata_of
from analysis.statistics.intervals import MIN_DOCUMENTS
from sae.change import in_chats
from sae.errors import InputError

__all__ = ["MATCHED", "Carriers", "confirmed_latents", "dialects_of", "find_carriers"]
__all__ += ["tell_apart"]

ANEW = "use the observer.parquet that the organism was grown with, or grow it anew"
SCORES = ("latent", "probe")
MATCHED = SelectConfig(match=("token_id", "context", "role"))
"""Compared tokens are the same word, in the same kind of document, role and position bucket."""


@dataclass(frozen=True, eq=False)
class Carriers:
    """Persona latents of the base dictionary, and two scales to read their AUROC on."""

    personas: pd.DataFrame
    """What `select_personas` returns: one row a carried (persona, latent) pair."""
    probe: pd.DataFrame
    """Score of a linear probe on residuals: persona, auroc, auroc_low, auroc_high."""
    ideal: pd.DataFrame | None
    """The same for the ideal observer's posterior; None where there is none."""
    contexts: pd.DataFrame
    """The same three in every kind of document, one row a context and persona: context, persona,
    n_tokens (labelled, all personas), at_home, latent (AUROC of the persona's first), probe, ideal.
    """
    dialects: pd.DataFrame | None = None
    """What `select_personas` returns for dialects in place of personas, found in the same way: a
    factor of the text that is no persona; None where it is not known."""

    def with_dialects(self, fates: pd.DataFrame) -> pd.DataFrame:
        """Rows of `fates.parquet` with a column `dialect`: which one a latent carries, else null.

        Args:
            fates: The rows; one of origin `tuned` carries none.
        """
        if self.dialects is None:
            return fates
        best = confirmed_latents(self.dialects)
        label = dict(zip(best["latent"], best["persona"], strict=True))
        rows = zip(fates["latent"], fates["origin"], strict=True)
        return fates.assign(
            dialect=[label.get(each) if origin == "base" else None for each, origin in rows]
        )

    @classmethod
    def none(cls) -> "Carriers":
        """No persona at all, where tokens tell none apart."""
        personas = ("persona", "latent", "auroc", "auroc_low", "auroc_high", "q_value", "confirmed")
        scores = ("persona", "auroc", "auroc_low", "auroc_high")
        contexts = ("context", "persona", "n_tokens", "at_home", *SCORES)
        tables = (pd.DataFrame(columns=list(names)) for names in (personas, scores, contexts))
        found, probed, by_context = tables
        return cls(found.astype({"confirmed": bool}), probed, None, by_context)

    def best(self) -> pd.DataFrame:
        """The first carried latent of each persona by its confirmed AUROC, confirmed ones first."""
        return _first(self.personas)


def confirmed_latents(found: pd.DataFrame, once: Sequence[str] = ("latent",)) -> pd.DataFrame:
    """Rows of confirmed latents, best AUROC first, of equals the one that stood first.

    Args:
        found: What `select_personas` returns.
        once: Columns of which no value comes twice, one column after the other.

    Example:
        >>> rows = {"persona": ["a", "b"], "latent": [7, 7], "auroc": [0.8, 0.9]}
        >>> confirmed_latents(pd.DataFrame(rows | {"confirmed": True}))["persona"].tolist()
        ['b']
    """
    best = found.loc[found["confirmed"].astype(bool)]
    best = best.sort_values("auroc", ascending=False, kind="stable")
    for column in once:
        best = best.drop_duplicates(column)
    return best


def tell_apart(tokens: pd.DataFrame) -> bool:
    """Whether every split has tokens of two personas; without them no persona is looked for.

    Args:
        tokens: Token table of the splits select and confirm.
    """
    known = [
        tokens.loc[comparable_tokens(tokens, split=split), "persona"].nunique()
        for split in ("select", "confirm")
    ]
    return min(known) > 1


def find_carriers(bench: Bench, firing: Firing, observer: Path | None = None) -> Carriers:
    """Selects persona latents on the select split, and confirms them on the confirm split.

    Both on documents in which no assistant speaks, where these hold every persona: a base model is
    not at home in a chat template that it never saw, and what it fails to read there says nothing
    of the features it has.

    Args:
        bench: Tokens and base residuals.
        firing: The base dictionary on the base model.
        observer: `observer.parquet` of an organism.

    Returns:
        The carriers; none at all where a split tells no two personas apart.

    Raises:
        InputError: The observer read other documents, or its file is damaged.
        ConfigError: Fewer than 8 documents to confirm on.
    """
    if not tell_apart(bench.tokens):
        return Carriers.none()
    home = _home(bench.tokens)
    own = bench.tokens.loc[home].reset_index(drop=True)
    personas = select_personas(sparse.csr_array(firing.z[np.flatnonzero(home)]), own, MATCHED)
    labelled = comparable_tokens(bench.tokens)
    fit, held = (labelled & bench.in_split(split) for split in ("select", "confirm"))
    fit &= home
    labels = bench.tokens["persona"].to_numpy(object)
    tokens = bench.tokens.loc[held].reset_index(drop=True)
    first = _first(personas)
    columns = firing.z[np.flatnonzero(held)][:, first["latent"].to_numpy(int)].toarray()
    scores = {
        "latent": pd.DataFrame(columns, columns=first["persona"].tolist()),
        "probe": probe(bench.x[fit], labels[fit], bench.x[held]),
    }
    dialects = None
    if observer is not None:
        scores["ideal"] = _posterior(observer, tokens)
        own = own.assign(dialect=dialects_of(observer, own).astype(str))
        z = sparse.csr_array(firing.z[np.flatnonzero(home)])
        dialects = select_personas(z, own, replace(MATCHED, label="dialect"))
    at_home = home[held]
    found = {name: _scored(each, tokens, at_home) for name, each in scores.items()}
    contexts = _by_context(scores, tokens, at_home)
    return Carriers(personas, found["probe"], found.get("ideal"), contexts, dialects)


def _first(personas: pd.DataFrame) -> pd.DataFrame:
    ranked = personas.sort_values(["confirmed", "auroc"], ascending=False, kind="stable")
    return ranked.drop_duplicates("persona").sort_values("persona").reset_index(drop=True)


def _scored(scores: pd.DataFrame, tokens: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    kept = np.flatnonzero(rows)
    part = scores.iloc[kept].reset_index(drop=True), tokens.iloc[kept].reset_index(drop=True)
    return score_columns(*part, MATCHED)


def _by_context(
    scores: Mapping[str, pd.DataFrame], tokens: pd.DataFrame, at_home: np.ndarray
) -> pd.DataFrame:
    """AUROC of every score by context and persona, matched tokens being of one context anyway."""
    parts = []
    for context in sorted(set(tokens["context"])):
        rows = np.flatnonzero(tokens["context"].eq(context).to_numpy())
        here = tokens.iloc[rows]
        strata, labels = strata_of(here, MATCHED.match), here["persona"].to_numpy(object)
        part = pd.DataFrame({"persona": sorted(set(labels))})
        for name, each in scores.items():
            part[name] = [
                auroc(each[persona].to_numpy(float)[rows], labels == persona, strata)
                if persona in each
                else float("nan")
                for persona in part["persona"]
            ]
        facts = {"context": context, "n_tokens": len(rows), "at_home": bool(at_home[rows].all())}
        parts.append(part.assign(**facts))
    return pd.concat(parts, ignore_index=True)


def _home(tokens: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Tokens of documents in which no assistant speaks; all, where that would lose a persona.

    A persona is lost to a split that has it in chats only. Fewer than 8 labelled documents, too few
    to confirm on, are not enough either.
    """
    home = ~in_chats(tokens)
    for split in ("select", "confirm"):
        labelled = comparable_tokens(tokens, split=split)
        kept = tokens.loc[labelled & home]
        lost = set(tokens.loc[labelled, "persona"]) - set(kept["persona"])
        if lost or kept["doc"].nunique() < MIN_DOCUMENTS:
            return np.ones(len(tokens), bool)
    return home


def dialects_of(observer: Path, tokens: pd.DataFrame) -> np.ndarray:
    """The dialect of every token's document, as the organism's text has it.

    Args:
        observer: `observer.parquet` of an organism.
        tokens: Token table of its text.

    Raises:
        InputError: The observer read other documents, or its file is damaged.
    """
    known = _observed(observer, "doc", "dialect")
    if not is_integer_dtype(known["dialect"]):
        found = f"{known['dialect'].dtype} values"
        raise InputError(f"whole numbers in column 'dialect' of {observer}", found, ANEW)
    of = dict(zip(known["doc"], known["dialect"], strict=True))
    found = [of.get(doc, -1) for doc in tokens["doc"]]
    if missing := found.count(-1):
        do = "use the organism's own text"
        raise InputError(f"a dialect of every token in {observer}", f"none for {missing}", do)
    return np.array(found)


def _posterior(path: Path, tokens: pd.DataFrame) -> pd.DataFrame:
    """The ideal observer's posterior at every token, one column a persona."""
    known = _observed(path, "doc", "pos", "posterior")
    if len(twice := np.flatnonzero(known.duplicated(["doc", "pos"]))):
        place = f"document {known['doc'].iloc[twice[0]]}, pos {known['pos'].iloc[twice[0]]}"
        raise InputError(f"one row a token in {path}", f"several of {place}", ANEW)
    at = pd.MultiIndex.from_arrays([tokens["doc"], tokens["pos"]])
    found = known.set_index(["doc", "pos"])["posterior"].reindex(at).tolist()
    missing = sum(not isinstance(each, np.ndarray) for each in found)
    if missing:
        raise InputError(
            f"{path} for every labelled token", f"none for {missing}", "use the organism's own text"
        )
    names = _personas_of(path)
    asked = f"posteriors over {len(names)} personas in {path}"
    if any(each.shape != (len(names),) for each in found):
        raise InputError(asked, "some over another number", ANEW)
    posterior = np.stack(found)
    if not is_numeric_dtype(posterior.dtype) or not np.isfinite(posterior).all():
        raise InputError(asked, "some that are no finite numbers", ANEW)
    return pd.DataFrame(posterior, columns=names)


def _observed(path: Path, *columns: str) -> pd.DataFrame:
    """Some columns of an `observer.parquet`, none of whose values is missing."""
    known = read_table(path, ANEW, columns, further=False)
    for column in columns:
        if n := int(np.count_nonzero(known[column].isna())):
            raise InputError(f"column {column!r} in {path}", f"{n} values missing", ANEW)
    return known


def _personas_of(path: Path) -> list[str]:
    """The personas that posteriors are over, from the metadata of the schema."""
    named = (pq.read_schema(path).metadata or {}).get(b"personas", b"")
    try:
        names = json.loads(named)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        found = f"{named.decode(errors='replace'):.60}" if named else "no metadata `personas`"
        raise InputError(f"names of personas in {path}", found, ANEW)
    return names
