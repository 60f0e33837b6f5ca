"""The benchmark of a whole fit, at a size at which nothing but that it runs can be told."""

import json
import sys

from benchmarks import bench_fit


def test_every_way_is_timed(monkeypatch, tmp_path, capsys):
    sizes = {"d-in": 32, "layers": 2, "vocab": 128, "length": 32, "n-tokens": 9000}
    sizes |= {"text-tokens": 9000, "rounds": 1, "documents": 32, "threads": 1}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    words += ["--hook", "blocks.1.hook_resid_post", "--results", str(tmp_path / "rows.jsonl")]
    monkeypatch.setattr(sys, "argv", ["bench_fit", *words])
    bench_fit.main()
    row = json.loads((tmp_path / "rows.jsonl").read_text())
    assert row["ways"].keys() == bench_fit.WAYS.keys()
    assert all(way["tokens_per_second"] > 0 for way in row["ways"].values())
    assert all(abs(sum(way["shares"].values()) - 1) < 0.01 for way in row["ways"].values())
    assert capsys.readouterr().out.count("tokens/s") == len(bench_fit.WAYS)
