import io
import json
import logging
import math
import sys
import types

import pytest

from training.loop import fit
from training.mirrors import ConsoleTracker, WandbTracker, start_wandb
from training.track import KEYS, JsonlTracker, Tracker, Trackers, open_trackers, read_rows


def _lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Refusing:
    """A tracker whose every call fails."""

    def __init__(self):
        self.n_calls = 0

    def _refuse(self, *_, **__):
        self.n_calls += 1
        raise ConnectionError("no route")

    log = histogram = finish = _refuse


def test_a_row_is_on_disk_as_soon_as_it_is_logged(tmp_path):
    tracker = JsonlTracker(tmp_path / "deep" / "metrics.jsonl")
    tracker.log({"tokens": 1, "fit/fvu": 0.5})
    assert _lines(tmp_path / "deep" / "metrics.jsonl") == [{"tokens": 1, "fit/fvu": 0.5}]
    tracker.histogram("eval/fire_rates", [3, 4], [-2.0, -1.0, 0.0], n_tokens=2)
    tracker.finish()
    tracker.finish()
    tracker.log({"tokens": 3})
    assert _lines(tmp_path / "deep" / "metrics.jsonl")[1:] == [
        {"tokens": 2, "eval/fire_rates": {"counts": [3, 4], "edges": [-2.0, -1.0, 0.0]}},
        {"tokens": 3},
    ]


def test_what_is_not_finite_is_null(tmp_path):
    JsonlTracker(tmp_path / "m").log({"tokens": 1, "fit/fvu": math.nan, "fit/l0": math.inf})
    assert _lines(tmp_path / "m") == [{"tokens": 1, "fit/fvu": None, "fit/l0": None}]


def test_a_torn_line_costs_only_itself(tmp_path):
    path = tmp_path / "m"
    path.write_text('{"tokens": 1}\n{"tok')
    JsonlTracker(path).log({"tokens": 2})
    assert read_rows(path) == [{"tokens": 1}, {"tokens": 2}]


def test_rows_read_as_of_an_unbroken_run(tmp_path):
    path, tracker = tmp_path / "m", JsonlTracker(tmp_path / "m")
    for tokens in (1, 2, 3, 4):
        tracker.log({"tokens": tokens, "step": tokens, "fit/fvu": 0.1})
    tracker.log({"tokens": 2, "eval/fvu": 0.2})
    tracker.log({"tokens": 3, "step": 3, "fit/fvu": 0.3})
    tracker.log({"tokens": 3, "step": 3, "fit/fvu": 0.4})
    assert read_rows(path) == [
        {"tokens": 1, "step": 1, "fit/fvu": 0.1},
        {"tokens": 2, "step": 2, "fit/fvu": 0.1},
        {"tokens": 2, "eval/fvu": 0.2},
        {"tokens": 3, "step": 3, "fit/fvu": 0.4},
    ]


def test_a_failing_tracker_reaches_neither_the_run_nor_the_others(tmp_path, caplog):
    refusing = Refusing()
    trackers = Trackers([refusing, JsonlTracker(tmp_path / "m")])
    for tokens in range(1, 9):
        trackers.log({"tokens": tokens})
    trackers.histogram("eval/fire_rates", [1], [0.0, 1.0], n_tokens=9)
    trackers.finish(1)
    assert [row["tokens"] for row in _lines(tmp_path / "m")] == list(range(1, 10))
    assert refusing.n_calls == 5 + 1
    assert [record.getMessage() for record in caplog.records] == [
        "Refusing failed, the run goes on without: ConnectionError('no route')",
        "Refusing failed 5 times in a row: left out",
    ]


def test_only_failures_in_a_row_count():
    class Moody(Refusing):
        def log(self, row):
            if row["tokens"] % 4:
                self._refuse()

    moody = Moody()
    trackers = Trackers([moody])
    for tokens in range(1, 21):
        trackers.log({"tokens": tokens})
    assert moody.n_calls == 15


def test_an_interrupt_is_not_swallowed():
    class Interrupted(Refusing):
        def log(self, row):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trackers([Interrupted()]).log({"tokens": 1})


def test_losses_are_the_same_under_a_tracker_that_always_fails(make_sae, stream, x, run_config):
    def losses(trackers):
        for record in fit(make_sae(), stream(x, 64), run_config):
            trackers.log(record.row())
            yield record.row()["loss/total"]

    assert list(losses(Trackers([Refusing()]))) == list(losses(Trackers([])))


def _fake_wandb(monkeypatch, fails):
    """A wandb of which the named calls fail with an error of its own kind."""

    class Error(Exception):
        pass

    class Run:
        url = "https://nowhere/run"
        settings = types.SimpleNamespace(sync_dir="/somewhere/offline-run")

        def __init__(self):
            self.seen = []

        def __getattr__(self, name):
            def call(*args, **kwargs):
                self.seen.append((name, args, kwargs))
                if name in fails:
                    raise Error(name)

            return call

    modes, run = [], Run()

    def init(**kwargs):
        modes.append((kwargs["mode"], kwargs["id"]))
        if {"init", kwargs["mode"]} & fails:
            raise Error("no server\nat all")
        return run

    fake = types.SimpleNamespace(
        init=init, Settings=dict, Histogram=lambda np_histogram: ("histogram", np_histogram)
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere/netrc")
    return modes, run


def _modes(modes):
    return [mode for mode, _ in modes]


@pytest.mark.parametrize(
    ("mode", "fails", "tried", "note"),
    [
        ("online", set(), ["online"], "wandb online at https://nowhere/run"),
        ("online", {"online"}, ["online", "offline"], "wandb offline: `wandb sync /somewhere/"),
        ("online", {"init"}, ["online", "offline"], "no wandb (Error: no server)"),
        ("online", {"define_metric"}, ["online", "offline"], "no wandb (Error: define_metric)"),
        ("offline", set(), ["offline"], "wandb offline"),
        ("auto", set(), ["offline"], "wandb offline"),
        ("off", set(), [], "no wandb (not asked for)"),
    ],
)
def test_each_mode_falls_back_in_turn(monkeypatch, tmp_path, mode, fails, tried, note):
    modes, _ = _fake_wandb(monkeypatch, fails)
    tracker, said = start_wandb(tmp_path, "a run/1", {}, mode)
    assert _modes(modes) == tried
    assert said.startswith(note) and "\n" not in said
    assert (tracker is None) == said.startswith("no wandb")


@pytest.mark.parametrize(
    ("name", "value", "tried"),
    [
        ("WANDB_API_KEY", "any", ["online"]),
        ("WANDB_MODE", "offline", ["offline"]),
        ("WANDB_MODE", "disabled", []),
    ],
)
def test_auto_goes_by_what_lies_ready(monkeypatch, tmp_path, name, value, tried):
    modes, _ = _fake_wandb(monkeypatch, set())
    monkeypatch.setenv(name, value)
    start_wandb(tmp_path, "run", {}, "auto")
    assert _modes(modes) == tried


@pytest.mark.parametrize(
    ("content", "tried"),
    [
        ("machine api.wandb.ai login user password any\n", ["online"]),
        ("machine elsewhere login user password any\n", ["offline"]),
        ("no such word\n", ["offline"]),
    ],
)
def test_auto_reads_the_netrc_without_asking(monkeypatch, tmp_path, content, tried):
    modes, _ = _fake_wandb(monkeypatch, set())
    (tmp_path / "netrc").write_text(content)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    start_wandb(tmp_path, "run", {}, "auto")
    assert _modes(modes) == tried


def test_no_wandb_installed_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert start_wandb(tmp_path, "run", {}, "offline")[0] is None


def test_a_resumed_run_keeps_its_id(monkeypatch, tmp_path):
    modes, _ = _fake_wandb(monkeypatch, set())
    start_wandb(tmp_path, "a run/1", {"lr": 1}, "offline")
    start_wandb(tmp_path, "a run/1", {"lr": 2}, "online")
    (_, first), (_, second) = modes
    assert first == second and first.startswith("a-run-1-")


def test_rows_go_to_wandb_without_a_step(monkeypatch, tmp_path):
    _, run = _fake_wandb(monkeypatch, set())
    tracker, _ = start_wandb(tmp_path, "run", {}, "offline")
    tracker.log({"tokens": 5, "fit/fvu": 0.5})
    tracker.histogram("eval/fire_rates", [1, 2], [0.0, 1.0, 2.0], n_tokens=6)
    tracker.finish(3)
    assert run.seen[:3] == [
        ("define_metric", ("tokens",), {}),
        ("define_metric", ("*",), {"step_metric": "tokens"}),
        ("log", ({"tokens": 5, "fit/fvu": 0.5},), {}),
    ]
    assert run.seen[3][1][0]["tokens"] == 6
    assert run.seen[4] == ("finish", (), {"exit_code": 3})


def test_a_wandb_that_fails_at_every_call_costs_no_row(monkeypatch, tmp_path, caplog):
    _, run = _fake_wandb(monkeypatch, {"log", "finish"})
    trackers, note = open_trackers(tmp_path, "run", {}, total_tokens=20, wandb="offline")
    for tokens in range(1, 21):
        trackers.log({"tokens": tokens})
    trackers.finish()
    assert "wandb sync" in note
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 20
    assert [name for name, *_ in run.seen].count("log") == 5
    assert all(record.levelno == logging.WARNING for record in caplog.records)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def test_off_a_terminal_a_plain_line_comes_every_few_seconds():
    clock, stream = Clock(), io.StringIO()
    tracker = ConsoleTracker(1000, seen_tokens=200, stream=stream, every=10.0, clock=clock)
    for second in range(1, 33):
        clock.seconds = float(second)
        tracker.log({"tokens": 200 + 20 * second, "fit/fvu": 0.25, "fit/l0": 16.0})
    clock.seconds = 40.0
    tracker.log({"tokens": 1000})
    tracker.finish()
    assert stream.getvalue().splitlines() == [
        "400 of 1,000 tokens (40%)  20 tokens/s  30 s left  fvu 0.25  l0 16",
        "600 of 1,000 tokens (60%)  20 tokens/s  20 s left  fvu 0.25  l0 16",
        "800 of 1,000 tokens (80%)  20 tokens/s  10 s left  fvu 0.25  l0 16",
        "1,000 of 1,000 tokens (100%)  20 tokens/s  0 s left",
    ]
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_on_a_terminal_there_is_a_bar():
    stream = Terminal()
    tracker = ConsoleTracker(1000, stream=stream)
    tracker.log({"tokens": 1000, "fit/fvu": 0.25})
    tracker.histogram("eval/fire_rates", [1], [0.0, 1.0], n_tokens=1)
    tracker.finish()
    assert "100%" in stream.getvalue() and "fvu=0.25" in stream.getvalue()


def test_every_tracker_is_one(tmp_path):
    members = [JsonlTracker(tmp_path / "m"), ConsoleTracker(1), Trackers([]), Refusing()]
    assert all(isinstance(each, Tracker) for each in members)
    assert issubclass(WandbTracker, Tracker)


def test_every_key_says_what_it_is():
    assert all(key.count("/") <= 1 and len(meaning) > 10 for key, meaning in KEYS.items())
