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


def test_without_fates_there_is_no_table(trace_dir):
    assert claims.table(replace(load_trace(trace_dir), fates=None)) is None
