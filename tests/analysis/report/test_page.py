import json
import re

import pandas as pd
import pytest

from analysis import report
from analysis.artefact.summary import parse
from analysis.report import drawn, kl, tables, words
from analysis.report.marks import three
from sae.errors import InputError

OPTIONAL = (
    "fates.parquet",
    "traces.parquet",
    "examples.parquet",
    "nulls.json",
    "provenance.json",
)


@pytest.fixture(scope="module")
def text(trace_dir):
    return report.build(trace_dir)


@pytest.fixture(scope="module")
def page(text, read_page):
    return read_page(text)


def values(page, attribute):
    return [value for _, name, value in page.attributes if name == attribute]


def plain(text):
    """Text of the page, tags out, spaces even."""
    text = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_no_request_leaves_the_file(text, page):
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(
        page.tags
    )
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert all(href.startswith("#") for href in values(page, "href"))
    policy = next(v for v in values(page, "content") if v.startswith("default-src"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def test_it_is_the_same_for_the_same_files_and_written_whole(text, new_trace, tmp_path):
    folder = new_trace(tmp_path)
    path = report.write(folder)
    assert path == folder / "report.html"
    assert path.read_text(encoding="utf-8") == text
    assert list(folder.glob("*.tmp")) == []
    assert len(text.encode()) < 12_000_000


def test_structure_is_that_of_an_accessible_page(text, page):
    assert text.lstrip().startswith("<!doctype html>")
    assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("title") == 1
    assert {"header", "nav", "footer"} <= set(page.tags)
    assert "en" in values(page, "lang")
    ids = values(page, "id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in values(page, "href")} <= set(ids)
    assert set(values(page, "aria-labelledby")) <= set(ids)
    assert 'class="skip" href="#main"' in text
    assert page.tags.count("th") == len(values(page, "scope"))
    assert page.tags.count("table") == page.tags.count("caption")
    assert all(label.strip() for label in values(page, "aria-label"))
    assert page.open == []
    assert page.crossed == []


def test_kinds_of_documents_stand_in_a_table_and_what_was_not_measured_is_not_available(text):
    said = plain(text)
    assert "chat no 8,410 13 0.710 (0.650 to 0.740) 0.800 (0.740 to 0.830) n/a" in said
    assert "story yes 4,096 13 0.830 (0.770 to 0.860) 0.910" in said


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_keep_the_contrast_of_aa(text, theme):
    roots = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    own = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", roots[theme == "dark"]))
    for back in (own["paper"], own["wash"]):
        assert min(contrast(own[name], back) for name in ("ink", "muted", "accent")) >= 4.5
        fates = [colour for name, colour in own.items() if name.startswith("fate-")]
        assert len(fates) == 6
        assert min(contrast(colour, back) for colour in fates) >= 3
    assert min(contrast(own["token-ink"], own[f"a{level}"]) for level in range(1, 8)) >= 4.5


def test_every_figure_has_a_name_a_caption_and_a_twin(text):
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert len(figures) == 5
    for figure in figures:
        assert figure.count('role="img" aria-label="') == 2
        caption = re.search(r"<figcaption>(.*?)</figcaption>", figure, re.DOTALL)[1]
        assert len(caption) >= 60
        assert "n = " in caption
        assert "nterval" in caption
        assert "<details>" in figure
        assert "<table>" in figure


def test_the_fate_counts_are_those_of_the_file(text, trace_dir):
    fates = pd.read_parquet(trace_dir / "fates.parquet")
    figure = re.search(r'<figure id="figure-fates">.*?</figure>', text, re.DOTALL)[0]
    body = re.search(r"<tbody>(.*?)</tbody>", figure, re.DOTALL)[1]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")]
    rows = [row for row in rows if row]
    expected = drawn.fate_table(fates)
    assert [int(row[3]) for row in rows] == expected["n"].tolist()
    assert sum(int(row[3]) for row in rows) == len(fates)
    for glyph, word in (("=", "preserved"), ("◇", "re-gated"), ("×", "lost")):
        assert f'aria-hidden="true">{glyph}</span> {word}' in text


def test_cards_have_addresses_and_show_every_arm(text, page):
    assert "latent-3" in values(page, "id")
    assert "#latent-3" in values(page, "href")
    card = re.search(r'<article class="latent" id="latent-3".*?</article>', text, re.DOTALL)[0]
    for shown in ("pirate", "Latent 3 in piston", "Latent 3 in format_only", "role × context"):
        assert shown in card


def test_numbers_come_with_interval_and_null(text):
    assert "0.440 [" in text
    assert "0.180" in text
    assert "6.25\u00a0% [0.160\u00a0%, 30.2\u00a0%]" in text
    assert "0.200, 0.250" in text and "not matched" not in text
    assert not re.search(r"\b(nan|NaN|None|inf)\b", plain(text))


def test_the_limits_are_said(text):
    said = "Intervals cover documents only: one seed, an illustration and not a verdict"
    assert said in plain(text)
    assert "The piston arm stopped before its loss was flat." in text


def test_where_kl_comes_from_stands_beside_its_null(text, data):
    said = plain(text)
    at = said.index("Where the difference in predictions comes from")
    share = data["arms"]["assistant"]["kl_shares"]["re_weighting"]
    value, low, high = (three(share[name]) for name in ("value", "low", "high"))
    row = f"other activations of inherited latents {value} [{low}, {high}] 0.200 to 0.400"
    assert f"assistant {row}" in said[at : at + 2000]
    assert "layers above the hook" in said[at : at + 2500]
    first, others = kl.tables(parse(data))
    assert {row[0] for row in first.rows} == {"assistant"}
    assert {row[0] for row in others.rows} == {"format_only", "piston"}
    for name in ("format_only", "piston"):
        data["arms"][name].pop("kl_shares")
    assert len(kl.tables(parse(data))) == 1
    for arm in data["arms"].values():
        arm.pop("kl_shares", None)
    assert kl.tables(parse(data)) == []


@pytest.mark.parametrize("without", [OPTIONAL[:1], OPTIONAL[1:3], OPTIONAL])
def test_an_absent_file_is_said_in_words(new_trace, tmp_path, without):
    made = report.build(new_trace(tmp_path, without=without))
    for name in without:
        if not (name == "traces.parquet" and "fates.parquet" in without):
            assert f"This trace holds no <code>{name}</code>" in made
    assert made.rstrip().endswith("</html>")


def test_nothing_found_is_a_page_too(data, tmp_path):
    data |= {"personas": {}, "arms": {}, "reuse_index": {}, "span": [], "error_rates": {}}
    data |= {"power": {}, "notes": [], "seeds": {}, "seconds": {}}
    (tmp_path / "summary.json").write_text(json.dumps(data))
    made = plain(report.build(tmp_path))
    assert "Undecided: the trace holds no tuned model to judge." in made
    assert "The summary holds no persona." in made


def test_without_a_summary_there_is_no_page(tmp_path):
    with pytest.raises(InputError, match=r"summary\.json"):
        report.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_hostile_tokens_and_names_stay_text(new_trace, tmp_path, hostile, read_page):
    folder = new_trace(tmp_path)
    table = pd.read_parquet(folder / "examples.parquet")
    table["tokens"] = [[*hostile, *list(tokens)[len(hostile) :]] for tokens in table["tokens"]]
    table["doc"] = hostile[1]
    table.to_parquet(folder / "examples.parquet")
    summary = json.loads((folder / "summary.json").read_text())
    summary["notes"] = [*hostile[:3], "told of \u202etuned"]
    (folder / "summary.json").write_text(json.dumps(summary))
    made = report.build(folder)
    page = read_page(made)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    snippets = made[made.index('id="latents"') : made.index('id="sizes"')]
    assert "\u202e" not in made and "told of ⟨U+202E⟩tuned" in made
    assert "5,000 characters" in snippets


def changed(data, **arms):
    for name, more in arms.items():
        data["arms"][name] |= more
    return parse(data)


def test_verdicts_follow_the_intervals(data):
    states = [each.state for each in words.evidence(parse(data))]
    assert states == ["for", "undecided", "undecided", "for", "undecided", "for"]
    assert words.conclusion(parse(data)) == "Undecided: of 6 tests, 3 for reuse, 3 undecided."


def test_a_difference_that_random_subspaces_have_too_decides_nothing(data):
    arms = {"piston": {"learned": True}}
    assert words.evidence(changed(data, **arms))[1].state == "for"
    data["span"][0]["null_high"] = 0.27  # past the estimate: claims call it undecided too
    found = words.evidence(parse(data))[1]
    assert found.state == "undecided" and "cannot be told apart" in found.text
    data["span"][0] |= {"value": -0.25, "low": -0.31, "high": -0.19, "null_low": -0.26}
    assert words.evidence(parse(data))[1].state == "undecided"
    data["span"][0]["null_low"] = -0.2
    assert words.evidence(parse(data))[1].state == "against"


def test_arms_that_moved_unlike_far_decide_nothing(data):
    data["arms"]["piston"]["learned"] = True
    data["span"][0]["kl"] = [0.2, 0.31]
    found = words.evidence(parse(data))[1]
    assert found.state == "undecided"
    assert "KL is not matched (0.200 and 0.310; a ratio of 1.5 is asked)" in found.text


@pytest.mark.parametrize(
    ("null", "state"),
    [
        ((0.14, 0.18), "for"),
        ((0.4, 0.5), "undecided"),
        ((0.5, 0.6), "against"),
        ((0.2, 1.0), "undecided"),
    ],
)
def test_a_share_is_judged_beside_the_middle_of_its_null(data, null, state):
    share = {"value": 0.44, "low": 0.42, "high": 0.46, "null_low": null[0], "null_high": null[1]}
    data["arms"]["assistant"]["in_span_share"] = share
    found = words.evidence(parse(data))[0]
    assert found.state == state
    assert f"({three(null[0])} to {three(null[1])})" in found.text


def test_an_arm_that_did_not_learn_decides_nothing(data):
    found = words.evidence(parse(data))[1]
    assert (
        "piston: difference 0.250 [0.190, 0.310]; random subspaces −0.0400 to 0.0500" in found.text
    )
    assert found.text.endswith("No verdict on piston: did not learn its task.")
    better = words.evidence(changed(data, piston={"learned": True}))[1]
    assert better.state == "for"


def test_an_arm_of_an_experiment_decides_nothing_and_is_not_listed(data):
    before = [each.text for each in words.evidence(parse(data))]
    less = [each.text for each in words.evidence(changed(data, piston={"is_contrast": False}))]
    assert less == [each for each in before if "KL" not in each or "piston" not in each]
    assert len(less) < len(before)


def test_all_for_all_against_and_torn_are_told_apart(data):
    data["span"] = [data["span"][0]]
    data["arms"]["piston"]["learned"] = True
    assert words.conclusion(parse(data)).startswith("Every test points to reuse")
    data["reuse_index"]["assistant"] = {"value": 0.2, "low": 0.1, "high": 0.3}
    assert words.conclusion(parse(data)).startswith("The tests disagree (2 for reuse, 1 against")
    data["arms"]["assistant"]["in_span_share"] = {
        "value": 0.1, "low": 0.05, "high": 0.15, "null_low": 0.14, "null_high": 0.18,
    }  # fmt: skip
    data["span"][0] |= {"value": -0.2, "low": -0.3, "high": -0.1}
    assert words.conclusion(parse(data)).startswith("Every test points against reuse")


def test_a_high_reuse_index_says_little_where_codes_have_one_too(data):
    data["arms"]["piston"]["behaviour"] = {"persona": None}
    assert words.evidence(parse(data))[-1].state == "for"
    low = data["reuse_index"]["assistant"]["low"]
    data["reuse_index"]["piston"] = {"value": low, "low": low - 0.1, "high": low + 0.01}
    found = words.evidence(parse(data))[-1]
    assert found.state == "undecided" and "piston, in whose answers no persona" in found.text


def test_a_high_reuse_index_says_little_where_a_pole_has_one_too(data):
    """Above 1, say, with a base that met no personas: then the index measures other things."""
    index = data["reuse_index"]["assistant"]
    data["reuse_index"]["scratch"] = {"value": 1.4, "low": 1.3, "high": 1.5}
    data["arms"]["scratch"] = {"kind": "pole"}
    found = words.evidence(parse(data))[-1]
    assert found.state == "undecided" and "But scratch, a pole, has 1.40" in found.text
    low = index["low"]
    data["reuse_index"]["scratch"] = {"value": low - 0.2, "low": low - 0.3, "high": low - 0.1}
    assert words.evidence(parse(data))[-1].state == "for"


def test_kl_that_nobody_measured_is_not_called_matched(data):
    data["span"][0]["kl"] = []
    (_, first, *_) = words.evidence(parse(data))
    assert "at KL that nobody measured" in first.text


def test_behaviour_that_is_no_measured_value_is_shown_as_it_is(data):
    said = {"value": "a", "low": 1, "high": None}
    data["arms"]["assistant"]["behaviour"] = {"mood": said, "rate": said | {"value": 1}}
    table = tables.behaviour(parse(data))
    assert table is not None
    rows = {row[0]: row[1] for row in table.rows}
    assert rows["mood.value"] == "a" and rows["mood.low"] == "1" and rows["mood.high"] == "n/a"
    assert rows["rate"] == "1 [no interval]"


def test_what_was_not_measured_is_undecided(data):
    data["reuse_index"] = {}
    data["span"] = []
    data["arms"]["assistant"].pop("in_span_share")
    found = words.evidence(parse(data))
    assert {each.state for each in found} == {"undecided"}
    assert all("not measured" in each.text or "No other arm" in each.text for each in found)


def test_no_persona_latent_is_said(trace_dir):
    fates = pd.read_parquet(trace_dir / "fates.parquet")
    fates["persona"] = None
    assert "No persona latent passed confirmation" in words.fate_sentence(fates, "assistant")


def test_the_constant_part_of_a_move_stands_beside_that_of_the_null(data):
    shift = {"value": 0.04, "low": 0.03, "high": 0.05, "null_low": 0.01, "null_high": 0.02}
    data["arms"]["assistant"]["mean_shift"] = shift
    table = tables.sizes(parse(data))
    rows = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    assert rows["assistant"]["constant part"] == "0.0400 [0.0300, 0.0500]"
    assert rows["assistant"]["the null's, up to"] == "0.0200"
    assert rows["piston"]["constant part"] == rows["piston"]["the null's, up to"] == "n/a"
