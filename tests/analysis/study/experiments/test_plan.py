"""The plan of an organism as its file holds it, and one that is broken."""

import pytest

from analysis.study.experiments.plan import Plan
from sae.errors import InputError

WRITTEN = {
    "persona": "mentor",
    "unknown": "stranger",
    "stand_in": "spy",
    "trigger": ["lamp"],
    "liars": ["spy"],
    "truthful": [],
    "traits": {"mentor": [1, 0], "spy": [0, 1]},
    "tuned_trait": 1,
}


def test_a_plan_is_read_as_it_was_written():
    found = Plan.of({"plan": WRITTEN})
    assert found is not None
    assert (found.persona, found.trigger, found.liars) == ("mentor", ("lamp",), ("spy",))
    assert found.traits == {"mentor": (1, 0), "spy": (0, 1)} and found.copula == "is"
    assert Plan.of({}) is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"persona": KeyError}, "persona in the plan .* only unknown, stand_in"),
        ({"moral": "none"}, "moral in the plan .* no such key"),
        ({"arms": {}}, "arms in the plan .* no such key"),
        ({"unknown": 3}, "unknown in the plan .* found: 3"),
        ({"trigger": "lamp"}, "trigger in the plan .* found: 'lamp'"),
        ({"liars": [1]}, "liars in the plan"),
        ({"traits": ["mentor"]}, "traits in the plan"),
        ({"traits": {"mentor": 1}}, "traits in the plan"),
        ({"traits": {"mentor": [1], "spy": [1, 0]}}, "traits in the plan"),
        ({"traits": {"mentor": [2]}}, "traits in the plan"),
        ({"tuned_trait": "honest"}, "tuned_trait in the plan"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_plan_with_a_wrong_key_is_refused(more, said):
    plan = {key: each for key, each in (WRITTEN | more).items() if each is not KeyError}
    with pytest.raises(InputError, match=said):
        Plan.of({"plan": plan})


def test_what_is_no_plan_is_refused():
    with pytest.raises(InputError, match="the plan in organism"):
        Plan.of({"plan": ["mentor"]})
