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
