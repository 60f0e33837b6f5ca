"""The table of claims on the page: a row a comparison, and none where nothing was measured."""

from dataclasses import replace

from analysis.hypotheses.claims import CLAIMS
from analysis.report import claims
from analysis.report.cards import load_trace


def test_every_claim_stands_there(trace_dir):
    table = claims.table(load_trace(trace_dir))
    assert table is not None
    names = {row[0].split(":")[0].split(",")[0] for row in table.rows}
    assert names == set(CLAIMS)
    assert all(len(row) == len(table.head) for row in table.rows)


def test_claims_are_those_of_the_first_arm_whatever_it_is_called(trace_dir):
    trace = load_trace(trace_dir)
    called = {"assistant": "helper"}
    arms = {called.get(name, name): arm for name, arm in trace.summary.arms.items()}
    assert trace.fates is not None
    fates = trace.fates.assign(tuned=trace.fates["tuned"].replace(called))
    found = claims.table(replace(trace, summary=replace(trace.summary, arms=arms), fates=fates))
    whole = claims.table(trace)
    assert found is not None and whole is not None
    for name in ("H1", "H2", "H3"):
        mine, same = ([r[1:] for r in t.rows if r[0].startswith(name)] for t in (found, whole))
        assert mine == same and "not measured" not in mine[0]


def test_without_fates_there_is_no_table(trace_dir):
    assert claims.table(replace(load_trace(trace_dir), fates=None)) is None
