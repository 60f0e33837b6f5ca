"""Every error of the project: one line, three parts, a code of its own that help names."""

import importlib
import pkgutil

import pytest

import analysis
import sae
import training
from sae.errors import ForelimbError
from scripts._cli import exit_codes

for package in (sae, training, analysis):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(found.name)


def below(cls: type[ForelimbError]) -> list[type[ForelimbError]]:
    return [each for sub in cls.__subclasses__() for each in (sub, *below(sub))]


ERRORS = below(ForelimbError)


def test_codes_are_distinct_and_leave_the_shells_alone():
    codes = [each.exit_code for each in ERRORS]
    assert len(set(codes)) == len(codes)
    assert all(2 <= code < 64 for code in codes)


@pytest.mark.parametrize("error", ERRORS)
class TestEveryError:
    def test_its_code_is_documented_by_its_own_first_line(self, error):
        assert exit_codes()[error.exit_code] == (error.__doc__ or "").partition("\n")[0]

    def test_its_message_is_one_line_of_three_parts(self, error):
        raised = error("a\nb", "c", "d")
        assert str(raised) == "asked: a b; found: c; do: d"
        assert (raised.asked, raised.found, raised.do) == ("a\nb", "c", "d")

    def test_it_asks_for_all_three(self, error):
        with pytest.raises(TypeError):
            error("only what was asked")
