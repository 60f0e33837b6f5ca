from scripts import _meter
from scripts._meter import Meter


def test_a_line_comes_every_five_seconds_and_at_the_end_of_a_part(monkeypatch, capsys):
    """A first line at once would tell a rate over no time at all."""
    now = [100.0]
    monkeypatch.setattr(_meter.time, "monotonic", lambda: now[0])
    meter = Meter("token")
    for second in range(7):
        now[0] = 100.0 + second
        meter("text", 10 * (second + 1), 100)
    now[0] = 110.0
    meter.close()
    first, last = capsys.readouterr().err.splitlines()
    assert first == "text: 60/100 token (60%), 12.00token/s, 00:03 left"
    assert last.startswith("text: 70/100 token (70%),  7.00token/s")


def test_parts_side_by_side_keep_their_own_count(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(_meter.time, "monotonic", lambda: now[0])
    meter = Meter()
    meter("one", 1, 20)
    meter("two", 1, 10)
    now[0] = 105.0
    meter("one", 5, 20, "loss 3")
    meter("two", 10, 10, "loss 2")
    now[0] = 110.0
    meter("one", 10, 10, "loss 1")  # it ended early, and says so by a smaller whole
    meter("one", 11, 10, "loss 0")  # nothing comes after the end
    meter.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "one: 5/20 step (25%)",
        "two: 10/10 step (100%)",
        "one: 10/10 step (100%)",
    ]
    assert lines[2].endswith("loss 1")
