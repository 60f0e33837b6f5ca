import json
import re

import pandas as pd
import pytest

from analysis.report.cards import load_trace
from analysis.report.snippets import grouped
from sae.errors import InputError


@pytest.fixture(scope="module")
def trace(trace_dir):
    return load_trace(trace_dir)


def parts(trace):
    """Fields of a trace, without what it has computed."""
    return {name: getattr(trace, name) for name in type(trace).__dataclass_fields__}


def row(tokens, which="base", z=1.0, rank=0):
    return {
        "rank": rank, "which": which, "doc": "d", "pos": 5, "start": 5, "tokens": tokens,
        "z_base": [z] * len(tokens), "z_tuned": [z / 2] * len(tokens), "role": "user",
        "context": "chat", "persona": "none",
    }  # fmt: skip


def test_a_card_is_static_small_and_scoped(trace):
    text = trace.card(3, "assistant")._repr_html_()
    assert len(text.encode()) <= 60_000
    assert "<script" not in text
    assert "http" not in text
    assert not re.search(r"\bid=", text)
    name = re.match(r'<div class="(fl-\w+)">', text)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    rules = re.findall(r"(?:^|\})\s*([^{}@]+)\{", re.sub(r"@media[^{]*\{", "", style))
    assert rules
    assert all(part.strip().startswith(f".{name}") for rule in rules for part in rule.split(","))
    assert name not in trace.card(3, "piston")._repr_html_()


def test_a_card_shows_both_models_and_what_was_measured(trace):
    card = trace.card(3, "assistant")
    text = card._repr_html_()
    fates = trace.fates
    mine = fates[(fates["tuned"] == "assistant") & (fates["latent"] == 3)].iloc[0]
    assert card.fate == mine["fate"]
    assert f"{card.mark.glyph}</span> {card.mark.word}" in text
    for shown in ("Latent 3", "pirate", "direction", "gain", "gating", "base · ", "assistant · "):
        assert shown in text
    assert repr(card).startswith("Card(latent 3, pirate, assistant: ")
    for group in card.groups.values():
        for snippet in group:
            words = ["".join(p.text for p in side) for side in (snippet.base, snippet.tuned)]
            assert words[0] == words[1]


def test_the_band_is_that_of_like_fire_rate(trace):
    band = trace.bands(3, "assistant")
    assert band["direction"][0] in (0.91, 0.94)
    assert band["gain"] == (-0.2, 0.22)
    card = trace.card(3, "assistant")
    where = {c.name: c.where for c in card.coordinates}
    assert where["gating"] == "inside the null"


def test_one_scale_and_one_peak_a_snippet(trace):
    card = trace.card(3, "assistant")
    snippets = [snippet for group in card.groups.values() for snippet in group]
    pieces = [piece for each in snippets for side in (each.base, each.tuned) for piece in side]
    assert max(p.z for p in pieces) == card.scale
    assert max(p.level for p in pieces) == 7
    for group in card.groups.values():
        for snippet in group:
            assert sum(p.is_peak for p in snippet.base) == 1


@pytest.mark.parametrize("place", range(7))
def test_hostile_tokens_stay_text(trace, hostile, read_page, place):
    token = hostile[place]
    groups, scale = grouped([row([token, token], which) for which in ("base", "tuned", "near")])
    card = trace.card(3, "assistant")
    card = type(card)(**{**vars(card), "groups": groups, "scale": scale})
    text = card._repr_html_()
    page = read_page(text)
    assert len(text.encode()) <= 60_000
    assert not {"script", "img"} & set(page.tags)
    assert not [a for _, a, _ in page.attributes if a.startswith("on")]
    assert "\u202e" not in text
    assert "{{ 7" in text or place != 6
    assert any(token[:4].strip("\u202e") in each for each in page.texts)


def test_a_card_stays_small_whatever_it_holds(trace):
    rows = [row(["<&>" * 20] * 25, w, rank=r) for w in ("base", "tuned", "near") for r in range(9)]
    card = trace.card(3, "assistant")
    groups, scale = grouped(rows)
    big = type(card)(**{**vars(card), "groups": groups, "scale": scale})
    assert len(big._repr_html_().encode()) <= 60_000


def test_what_was_not_measured_is_na(trace):
    card = trace.card(100, "assistant")
    assert [c.where for c in card.coordinates] == ["not measured"] * 3
    assert "n/a" in card._repr_html_()
    assert "nan" not in card._repr_html_().lower().replace("amplified", "")


def test_the_latent_of_an_unconfirmed_persona_says_so(trace):
    card = trace.card(7 * 13 + 3, "assistant")
    assert card.persona is None
    assert card.who == "jester, not confirmed"
    assert "jester, not confirmed" in card._repr_html_()


def test_a_null_that_says_nothing_limits_nothing(trace):
    bins = [{"fire_rate_from": 0.0, "n_latents": 0, "direction": None, "gain_low": None}]
    bins[0] |= {"gain_high": None, "gating": None}
    own = type(trace)(**{**parts(trace), "nulls": {"arms": {"assistant": {"power": bins}}}})
    assert own.bands(3, "assistant")["gain"] == (-float("inf"), float("inf"))
    none = type(trace)(**{**parts(trace), "nulls": {"arms": {"assistant": None}}})
    assert none.bands(3, "assistant") == {}


def test_a_trace_shows_itself_and_names_what_it_lacks(trace):
    assert "16 personas" in repr(trace)
    assert "did not learn its task" in trace._repr_html_()
    with pytest.raises(InputError, match="the trace holds assistant, piston"):
        trace.card(3, "tuned")
    with pytest.raises(InputError, match="latent 99999"):
        trace.card(99999, "assistant")


def test_absent_files_leave_parts_empty(new_trace, tmp_path):
    folder = new_trace(tmp_path, without=("traces.parquet", "nulls.json"))
    bare = load_trace(folder)
    assert bare.traces is None
    card = bare.card(3, "assistant")
    assert card.fires == ()
    assert {c.where for c in card.coordinates} == {"no null to compare with"}


def test_a_table_without_a_column_is_named(new_trace, tmp_path):
    folder = new_trace(tmp_path)
    table = pd.read_parquet(folder / "fates.parquet").drop(columns="fate")
    table.to_parquet(folder / "fates.parquet")
    with pytest.raises(InputError, match=r"column 'fate' in .*fates\.parquet"):
        load_trace(folder)
    (folder / "fates.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"fates\.parquet"):
        load_trace(folder)


def test_an_effect_is_shown_where_it_was_measured(new_trace, tmp_path):
    folder = new_trace(tmp_path)
    table = pd.read_parquet(folder / "fates.parquet")
    mine = (table["latent"] == 3) & (table["tuned"] == "assistant")
    table.loc[mine, ["effect", "effect_low", "effect_high"]] = 0.6, 0.4, 0.7
    table.to_parquet(folder / "fates.parquet")
    nulls = json.loads((folder / "nulls.json").read_text())
    for each in nulls["arms"]["assistant"]["power"]:
        each["effect"] = 0.8
    (folder / "nulls.json").write_text(json.dumps(nulls))
    found = {c.name: c for c in load_trace(folder).card(3, "assistant").coordinates}
    assert (found["effect"].value, found["effect"].null[0]) == (0.6, 0.8)
    assert found["effect"].where == "beyond the null"
    assert [c.name for c in load_trace(folder).card(3, "piston").coordinates] == [
        "direction",
        "gain",
        "gating",
    ]


def test_a_latent_that_was_let_go_says_whose_its_numbers_are(new_trace, tmp_path):
    folder = new_trace(tmp_path)
    fates = pd.read_parquet(folder / "fates.parquet").assign(read_by="continued")
    latent, tuned = int(fates["latent"][0]), str(fates["tuned"][0])
    fates.loc[0, "read_by"] = "base"
    fates.to_parquet(folder / "fates.parquet")
    trace = load_trace(folder)
    assert "let this latent go" in trace.card(latent, tuned).body()
    assert "let this latent go" not in trace.card(int(fates["latent"][1]), tuned).body()
