import doctest
import importlib

import pytest

_MODULES = (
    "config", "continuation", "evaluate", "interrupt", "loop", "mirrors", "optim", "recipes",
    "schedules", "state", "track",
)  # fmt: skip


@pytest.mark.parametrize("name", _MODULES)
def test_examples_do_what_they_say(name):
    result = doctest.testmod(importlib.import_module(f"training.{name}"))
    assert result.failed == 0
