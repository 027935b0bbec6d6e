"""The rule that calls a gap visible, masked or closed: each case by hand."""

from __future__ import annotations

import numpy as np
import pytest

from knowledge_gaps.statistics.rules import Gap, describe_gap_rule, judge_gap, list_telling

NAN = float("nan")
DETECTED = {"none": 1.0, "a": 0.9, "b": 0.8, "c": 0.95, "blind": 0.79}
Area = float | list[float] | list[list[float]]  # of a chain, of chains, and pairs of chains


def judge(held_out: dict[str, Area], reference: dict[str, Area] | None = None) -> Gap:
    reference = {**DETECTED} if reference is None else reference
    sides = [
        {name: np.atleast_1d(np.array(aucs, float)) for name, aucs in side.items()}
        for side in (held_out, reference)
    ]
    return judge_gap(*sides)


def at(none: Area, a: Area, b: Area = 0.5, c: Area = 0.5, blind: Area = 0.5) -> dict[str, Area]:
    return {"none": none, "a": a, "b": b, "c": c, "blind": blind}


@pytest.mark.parametrize(
    ("held_out", "gap"),
    [
        (at(0.98, 0.96), Gap.VISIBLE),
        (at(0.61, 0.5), Gap.VISIBLE),
        (at([0.9, 0.4], 0.5), Gap.VISIBLE),  # 0.65 on average
        (at(0.5, 0.61), Gap.MASKED),
        (at(0.55, 0.7), Gap.MASKED),
        (at(0.2, 0.65), Gap.MASKED),  # inverted, and then the right way round
        (at([0.45, 0.55], [0.5, 0.8]), Gap.MASKED),
        (at(0.5, 0.55, 0.45), Gap.CLOSED),
        (at(0.5, 0.5, blind=0.99), Gap.CLOSED),  # the reference is not detected there
        (at([0.45, 0.55], [0.42, 0.58]), Gap.CLOSED),
        (at(0.56, 0.64), Gap.UNDECIDED),  # no longer near chance, but hardly risen
        (at(0.3, 0.5), Gap.UNDECIDED),  # inverted: it tells them apart, the wrong way round
        (at(0.5, 0.3), Gap.UNDECIDED),
        (at([0.1, 0.9], 0.5), Gap.UNDECIDED),  # chance on average, and for nobody
        (at([[0.1, 0.9], [0.5, 0.5]], 0.5), Gap.UNDECIDED),  # the same in one of two chains
        (at([[0.55, 0.65], [0.4, 0.5]], 0.5), Gap.CLOSED),  # chains 0.6 and 0.45, 0.075 off
        (at([], 0.5), Gap.UNKNOWN),  # every classifier of the cohort is in the loss
        (at(NAN, 0.5), Gap.UNKNOWN),
        (at(0.5, NAN), Gap.UNKNOWN),
        (at(0.5, 0.5, blind=NAN), Gap.CLOSED),
        ({"none": 0.5, "a": 0.5}, Gap.UNKNOWN),
    ],
)
def test_every_case_has_its_word(held_out: dict[str, Area], gap: Gap) -> None:
    assert judge(held_out) is gap


@pytest.mark.parametrize(
    ("reference", "gap"),
    [
        (at(0.7, 0.9, 0.9, 0.9), Gap.UNDECIDED),  # not detected even on unchanged images
        (at(0.99, 0.9, 0.9, 0.7, 0.7), Gap.UNDECIDED),  # two perturbations are too few
        (at(0.99, 0.7, 0.7, 0.7, 0.7), Gap.UNDECIDED),  # none tells anything
        (at([], [], [], [], []), Gap.UNKNOWN),
        ({"none": 1.0}, Gap.UNKNOWN),  # no perturbation was asked for
        ({}, Gap.UNKNOWN),
    ],
)
def test_nothing_is_closed_without_a_reference(reference: dict[str, Area], gap: Gap) -> None:
    assert judge(at(0.5, 0.5), reference) is gap
    assert judge(at(0.9, 0.5), reference) is Gap.VISIBLE  # needs none


def test_only_perturbations_with_a_detected_reference_tell() -> None:
    areas = {name: np.array([value]) for name, value in DETECTED.items()}
    assert list_telling(areas) == ["a", "b", "c"]
    assert list_telling({"a": np.array([0.9, 0.6])}) == []  # 0.75 on average


def test_words_name_the_numbers() -> None:
    words = describe_gap_rule()
    assert [word for word in Gap if word.capitalize() not in words] == []
    for number in ("at least 0.6 on unchanged", "at least 0.8;", "and 0.1 higher", "at least 3 of"):
        assert number in words
