"""A trace folder as the pipeline writes it, with invented numbers of realistic size."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.artefact import summary as summaries
from analysis.study.shares import ABOVE, PARTS

PERSONAS = (
    "pirate", "sage", "farmer", "villain", "clerk", "child", "soldier", "poet",
    "healer", "thief", "captain", "monk", "scholar", "jester", "widow", "hunter",
)  # fmt: skip
ARMS = ("assistant", "piston", "format_only", "scratch", "continued", "continued_b")
TUNED = ARMS[:3]
N_LATENTS = 100
CONTEXTS = {"story": ("narrator", "character"), "chat": ("system", "user", "assistant", "template")}
COORDINATES = ("direction", "gain", "gating")
SHARES = (0.02, 0.3, 0.1, 0.01, 0.06, 0.04, 0.17, 0.3)
CHANGED = ("amplified", "suppressed", "re_gated", "rotated", "lost")
WORDS = [
    "arr",
    "the",
    "old",
    "harbour",
    "said",
    "nothing",
    "while",
    "gold",
    "and",
    "rain",
    "fell",
    "on",
    "her",
    "ship",
]


def measured(rng, value, spread=0.03, **more):
    return {
        "value": value,
        "low": value - spread * (1 + rng.random()),
        "high": value + spread * (1 + rng.random()),
        **more,
    }


def summary_data():
    rng = np.random.default_rng(3)
    persona = {}
    for place, name in enumerate(PERSONAS):
        auroc = 0.97 - 0.022 * place
        persona[name] = {
            "latent": 7 * place + 3,
            "auroc": auroc,
            "auroc_low": auroc - 0.03,
            "auroc_high": min(1.0, auroc + 0.025),
            "probe_auroc": min(0.995, auroc + 0.04 + 0.03 * rng.random()),
            "ideal_auroc": 0.995,
            "q_value": 0.001 * 1.5**place,
            "confirmed": place < 13,
        }
    shares = {"assistant": 0.44, "piston": 0.19, "format_only": 0.33, "continued": 0.17}
    shares |= {"continued_b": 0.16}
    kl = dict(zip(ARMS, (0.31, 0.52, 0.08, 1.9, 0.02, 0.021), strict=True))
    arms = {}
    for name in ARMS:
        kind = "pole" if name == "scratch" else "null" if "continued" in name else "arm"
        arms[name] = {
            "kind": kind,
            "about": f"what {name} was tuned on",
            "fates": {},
            "size": {"weights": 0.04, "activations": 0.3 * kl[name], "kl": kl[name]},
            "learned": name != "piston" if kind == "arm" else None,
            "null": "continued/step-2000" if kind == "arm" else None,
            "behaviour": {"assistant_ce": 1.2 + kl[name], "obeys": 0.9 if kind == "arm" else None},
        }
        if name in shares:
            arms[name]["in_span_share"] = measured(rng, shares[name], null_low=0.14, null_high=0.18)
            arms[name]["fidelity_fvu"] = measured(rng, 0.21 + kl[name] / 5, null_high=0.24)
    for name in TUNED:
        arms[name]["repurposed_share"] = measured(rng, 0.2, 0.1)
        arms[name]["novel_share"] = measured(rng, 0.02, 0.009)
        arms[name]["kl_shares"] = {
            part: measured(rng, value, 0.02, null_low=value - 0.1, null_high=value + 0.1)
            for part, value in zip((*PARTS, ABOVE), SHARES, strict=True)
        }
    return {
        "dictionary": {"fvu": 0.1834, "l0": 15.91, "ce_recovered": 0.962, "dead_fraction": 0.012},
        "base": {"ce": 1.874, "ideal_ce": 1.802},
        "personas": persona,
        "arms": arms,
        "reuse_index": {
            "assistant": measured(rng, 0.86, 0.05),
            "piston": measured(rng, 0.41, 0.09),
            "format_only": measured(rng, 0.97, 0.04),
            "scratch": measured(rng, 0.0, 0.03),
        },
        "span": [
            span("assistant text", "piston", 0.25, 0.19, 0.31),
            span("neutral text", "piston", 0.03, -0.02, 0.08),
            span("assistant text", "format_only", 0.11, 0.05, 0.17),
            span("neutral text", "format_only", -0.01, -0.06, 0.05),
        ],
        "error_rates": {
            "continued_b": {
                "persona": rate(16, 0.0625, 0.0016, 0.302, 0.81, 0.54, 0.96),
                "all": rate(151, 0.0199, 0.004, 0.057, 0.87, 0.80, 0.92),
            }
        },
        "controls": {
            "same_weights": {
                "matched": False,
                "error_rates": {
                    "continued/step-100": {
                        "persona": rate(16, 0.0, 0.0, 0.206, 1.0, 0.794, 1.0),
                        "all": rate(500, 0.0, 0.0, 0.00735, 0.97, 0.951, 0.983),
                    }
                },
            },
        },
        "power": {
            name: {
                "n_null": 75,
                "smallest_p": 0.0395,
                "direction": 0.91,
                "gain": 0.22,
                "gating": 0.31,
            }
            for name in TUNED
        },
        "contexts": {
            "chat": context(8410, False, 0.71, 0.80, None),
            "story": context(4096, True, 0.83, 0.91, 0.96),
        },
        "notes": ["The piston arm stopped before its loss was flat."],
        "seeds": {"organism": 0, "dictionary": 0, "blocks": 0},
        "seconds": {"grow": 612.3, "fit": 240.1, "trace": 98.7},
        "label": "documents only",
    }  # fmt: skip


def context(n_tokens, chosen_here, *medians):
    scores = ("latent", "probe", "ideal")
    spreads = {
        name: median and {"value": median, "low": median - 0.06, "high": median + 0.03}
        for name, median in zip(scores, medians, strict=True)
    }
    return {"n_tokens": n_tokens, "n_personas": 13, "chosen_here": chosen_here, **spreads}


def span(text, other, value, low, high):
    return {
        "text": text,
        "pair": ["assistant", other],
        "checkpoints": ["step-900", "step-400"],
        "value": value,
        "low": low,
        "high": high,
        "excludes_zero": low > 0 or high < 0,
        "kl": [0.2, 0.25],
        "null_low": -0.04,
        "null_high": 0.05,
    }


def rate(n, *shares):
    names = ("value", "low", "high")
    return {
        "n": n,
        "changed": dict(zip(names, shares[:3], strict=True)),
        "preserved": dict(zip(names, shares[3:], strict=True)),
    }


def fates_table():
    rng = np.random.default_rng(5)
    carriers = {7 * place + 3: name for place, name in enumerate(PERSONAS[:13])}
    rows = []
    for arm, changed_share in zip(TUNED, (0.3, 0.5, 0.1), strict=True):
        for latent in range(N_LATENTS):
            persona = carriers.get(latent)
            draw = rng.random()
            changed = draw < changed_share * (1.4 if persona else 0.6)
            fate = str(rng.choice(CHANGED)) if changed else "preserved"
            reason = None
            if not changed and rng.random() < 0.3:
                fate, reason = "undetermined", "intervals leave the null's band"
            rows.append(fate_row(rng, arm, latent, persona, fate, reason))
        for latent in range(N_LATENTS, N_LATENTS + 4):
            new = ("novel_in_span", "novel_out_of_span")[latent % 2]
            rows.append(
                fate_row(rng, arm, latent, None, new, None) | {"origin": "tuned"}
                | {f"{c}{end}": None for c in COORDINATES for end in ("", "_low", "_high")}
            )  # fmt: skip
    return pd.DataFrame(rows)


def fate_row(rng, arm, latent, persona, fate, reason):
    values = {"direction": 0.98, "gain": 0.02, "gating": 0.12}
    if fate in ("amplified", "suppressed"):
        values["gain"] = 0.7 if fate == "amplified" else -0.7
    if fate == "rotated":
        values["direction"] = 0.55
    if fate in ("re_gated", "lost"):
        values["gating"] = 0.74
    row = {
        "tuned": arm,
        "latent": latent,
        "origin": "base",
        "fate": fate,
        "p_value": 0.001 if fate in CHANGED else 0.4,
        "q_value": 0.004 if fate in CHANGED else 0.6,
        "confidence": None if fate == "undetermined" else 0.8 + 0.2 * rng.random(),
        "persona": persona,
        "selectivity_auroc": 0.9 if persona else None,
    }
    for name, value in values.items():
        row |= {name: value, f"{name}_low": value - 0.03, f"{name}_high": value + 0.03}
    nothing = dict.fromkeys(("effect", "existence", "nu_reconstruction", "nu_error"), np.nan)
    return row | nothing | {"reason": reason, "n_fires": 900}


def traces_table():
    rng = np.random.default_rng(6)
    rows = []
    for arm in TUNED:
        for context, roles in CONTEXTS.items():
            for role in roles:
                n = 20_000 if role != "template" else 900
                for latent in range(N_LATENTS):
                    base = int(n * 0.03 * rng.random() ** 2)
                    tuned = int(base * (0.5 + rng.random() * 2))
                    both = min(base, tuned) // 2
                    z = (3.1 * base, 3.4 * tuned, 3.2 * both, 3.3 * both)
                    rows.append((arm, latent, context, role, n, base, tuned, both, *z))
    counts = ["n_tokens", "n_fires_base", "n_fires_tuned", "n_fires_both"]
    sums = ["sum_z_base", "sum_z_tuned", "sum_z_both_base", "sum_z_both_tuned"]
    return pd.DataFrame(rows, columns=["tuned", "latent", "context", "role", *counts, *sums])


def examples_table(fates):
    rng = np.random.default_rng(7)
    mine = fates[
        (fates["persona"].notna()) | ((fates["latent"] % 40 == 1) & (fates["origin"] == "base"))
    ]
    rows = []
    for tuned, latent, persona in zip(mine["tuned"], mine["latent"], mine["persona"], strict=True):
        for which, n in (("base", 5), ("tuned", 5), ("near", 2), ("silent", 2)):
            if which == "silent" and not isinstance(persona, str):
                continue
            for rank in range(n):
                rows.append(example(rng, tuned, latent, persona, which, rank))
    return pd.DataFrame(rows)


def example(rng, tuned, latent, persona, which, rank):
    size = {"base": 4.0, "tuned": 4.0, "near": 0.4, "silent": 0.0}[which] * (1 - 0.1 * rank)
    near = np.exp(-np.abs(np.arange(25) - 12) / 2.5) * (rng.random(25) < 0.6)
    near[12] = 1.0
    tokens = [" " + str(word) for word in rng.choice(WORDS, 25)]
    return {
        "tuned": tuned,
        "latent": latent,
        "rank": rank,
        "which": which,
        "doc": f"story-{rng.integers(4000)}",
        "pos": 40,
        "start": 28,
        "tokens": tokens,
        "z_base": (size * near).tolist(),
        "z_tuned": (size * near * (0.4 + rng.random())).tolist(),
        "role": "character",
        "context": "story",
        "persona": persona if isinstance(persona, str) else "none",
    }


def nulls_data():
    bins = [
        {"fire_rate_from": at, "n_latents": 75, "direction": cosine, "gain_low": -0.2,
         "gain_high": 0.22, "gating": 0.31}
        for at, cosine in ((0.0, 0.91), (0.006, 0.94))
    ]  # fmt: skip
    arms = {
        name: {"null": "continued/step-2000", "change": 0.4, "smallest_p": 0.0395, "power": bins}
        for name in TUNED
    }
    return {"arms": arms}


HOSTILE = (
    "</script><script>window.__pwned=1</script>",
    '<img src=x onerror="alert(1)">',
    "\u202eright to left\u2066",
    "x" * 5000,
    '" onmouseover="alert(1)',
    "&amp;\x00\u200b",
    "{{ 7 * 7 }}",
)


VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; tags left open, and those closed out of turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open, self.crossed = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.crossed.append(tag)

    def handle_data(self, data):
        self.texts.append(data)


PROVENANCE = {
    "version": "0.1.0",
    "git_commit": "31296dc",
    "is_dirty": False,
    "command": "python -m scripts.trace_personas --config demo.yaml",
    "config_sha256": "9f2c" * 16,
    "models": {"base": {"name": "organism/base", "revision": None, "weights_sha256": "ab" * 32}},
    "hook": "blocks.3.hook_resid_post",
    "inputs": {"dictionary": "cd" * 32},
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
}


def make_trace(directory: Path, without=()) -> Path:
    """Write a whole trace folder, but for the files named."""
    directory.mkdir(parents=True, exist_ok=True)
    data, fates = summary_data(), fates_table()
    for name in TUNED:
        counts = fates.loc[fates["tuned"] == name, "fate"].value_counts()
        data["arms"][name]["fates"] = {str(k): int(v) for k, v in counts.items()}
    summaries.write(directory, data)
    tables = {"fates": fates, "traces": traces_table(), "examples": examples_table(fates)}
    for name, table in tables.items():
        if f"{name}.parquet" not in without:
            table.to_parquet(directory / f"{name}.parquet")
    for name, value in {"nulls": nulls_data(), "provenance": PROVENANCE}.items():
        if f"{name}.json" not in without:
            (directory / f"{name}.json").write_text(json.dumps(value))
    return directory


@pytest.fixture(scope="session")
def trace_dir(tmp_path_factory):
    """A complete trace folder; shared, so tests leave it as it is."""
    return make_trace(tmp_path_factory.mktemp("trace"))


@pytest.fixture
def data():
    """The content of a summary, to be spoilt."""
    return {"schema": summaries.SCHEMA, **summary_data()}


@pytest.fixture(scope="session")
def new_trace():
    """Writes a trace folder, without the files named."""
    return make_trace


@pytest.fixture(scope="session")
def hostile():
    """Tokens that would break a page which trusts them."""
    return HOSTILE


@pytest.fixture(scope="session")
def read_page():
    """Parses HTML into tags, attributes and text."""
    return Page
