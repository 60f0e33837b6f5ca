"""Where the demo puts things; what it does is done by the other doors."""

from pathlib import Path

import pytest

from scripts import _chain, demo


class Reached(Exception):  # noqa: N818  not an error
    """Ends a demo at its first stage."""


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        (demo.Config(), "runs/demo"),
        (demo.Config(quick=True), "runs/quick"),
        (demo.Config(Path("mine"), quick=True), "mine"),
    ],
)
def test_a_quick_demo_does_not_clear_a_whole_one_away(monkeypatch, config, folder):
    def reached(given):
        raise Reached(given.out)

    monkeypatch.setattr(_chain.grow_organism, "main", reached)
    with pytest.raises(Reached) as stopped:
        demo.main(config)
    assert stopped.value.args == (Path(folder) / "organism",)
