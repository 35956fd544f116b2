"""People put together: which group stands at which end, and what is said of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pulse.audit.people import Answer, Person
from pulse.audit.skin import Tone
from pulse.audit.study import as_json, study


def person(name, group, distance=0.5, error=8e-4, lightness=0.0, angle=0.0):
    """Somebody whose photograph is far from everybody's, with two answers."""
    embedding = np.zeros(128)
    embedding[int(name)] = 1.0
    truth = Tone(60.0, 30.0, 5)
    answers = tuple(
        Answer(k, error, error < 1e-3, distance, 20.0, Tone(60 + lightness, 30 + angle, 5), None)
        for k in (1, 2)
    )
    return Person(name, group, answers, 0.02, truth, None, embedding, f"low {name}", b"jpeg")


def crowd(**of_b):
    """Six people of each of two groups, and two of a third."""
    rng = np.random.default_rng(0)
    people = []
    for i in range(14):
        group = "aaaaaabbbbbbcc"[i]
        values = {"distance": 0.5 + 0.02 * rng.random()} | (of_b if group == "b" else {})
        people.append(person(f"{i:02d}", group, **values))
    return study(people, {}, "mixing", 16, 2, 1.0)


def comparison(found, name):
    return next(c for c in found.comparisons if c.measure.name == name)


def test_the_ends_are_those_that_fare_worst_and_best():
    found = crowd(error=2e-3, distance=0.8)
    for name in ("within", "error", "distance", "alike"):
        assert (comparison(found, name).worst, comparison(found, name).best) == ("b", "a")
    assert comparison(found, "error").ratio.mean == pytest.approx(2.5)
    assert comparison(found, "within").ratio.mean == 0
    assert comparison(found, "distance").groups["c"] is None
    assert comparison(found, "distance_other").worst is None


def test_the_worst_shift_is_the_one_furthest_from_zero():
    found = crowd(lightness=-4.0)
    shift = comparison(found, "lightness_shift")
    assert (shift.worst, shift.best, shift.ratio) == ("b", "a", None)
    assert shift.groups["b"].mean == -4
    assert comparison(found, "lightness_miss").groups["b"].mean == 4


def test_what_is_found_is_said():
    found = crowd(error=2e-3)
    words = "Groups differ in share within the tolerance: b 0.00, a 1.00 (p = "
    assert found.findings()[0].startswith(words)
    # two of 924 ways to deal twelve people part them so: 0.0022, and 4,999 draws of them
    assert float(found.findings()[0].removeprefix(words).rstrip(").")) < 0.005
    shifted = study([person(f"{i:02d}", "a", angle=5.0) for i in range(12)], {}, "m", 8, 2, 1.0)
    moved, differ = shifted.findings()
    assert moved.startswith("Over everyone, the shift of the skin's ITA, degrees is +5.0 (+5.0 to ")
    assert differ == "Nothing can be said of differences: fewer than two groups have 5 people."


def test_answers_no_nearer_than_strangers_are_said():
    # everybody's photograph is the square root of 2 away from everybody else's
    words = "b: candidates are no nearer to their photograph (1.50) than other people of the group"
    assert f"{words} are (1.41), as dlib sees them." in crowd(distance=1.5).findings()
    assert not any("no nearer" in line for line in crowd(distance=1.4).findings())


def test_groups_that_are_too_small_are_named():
    assert crowd().too_few() == ["c"]
    assert crowd().sizes == {"a": 6, "b": 6, "c": 2}


def test_a_study_is_json_with_a_row_for_each_candidate():
    held = json.loads(json.dumps(as_json(crowd(lightness=2.0)), allow_nan=False))
    assert len(held["rows"]) == 28
    assert held["rows"][12]["group"] == "b"
    assert held["rows"][12]["lightness"] == 62
    assert held["rows"][12]["truth_lightness"] == 60
    assert held["representation"]["ITA"]["categories"] == ["intermediate"]
    assert held["measures"]["error"]["groups"]["c"] is None
