"""Every case of the verdict on a generator's diversity, with its boundary."""

from __future__ import annotations

import dataclasses

import pytest

from knowledge_gaps.statistics.collapse import Collapse, Diversity, describe_rule, judge_collapse

FLOOR = Diversity(contrast=77.0, class_entropy=2.0, missing_share=0.0, recall=0.8)
NO_CLASSES = {"class_entropy": None, "missing_share": None}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Collapse.INTACT),
        ({"contrast": 8.0}, Collapse.INTACT),
        ({"contrast": 7.99}, Collapse.EMPTY),
        ({"contrast": 0.0, "class_entropy": 0.0, "missing_share": 0.9}, Collapse.EMPTY),
        ({"class_entropy": 0.99}, Collapse.COLLAPSED),
        ({"class_entropy": 1.0}, Collapse.REDUCED),  # not below half
        ({"missing_share": 0.5}, Collapse.COLLAPSED),
        ({"missing_share": 0.4}, Collapse.INTACT),  # entropy and recall say how much that is
        ({"class_entropy": 1.79}, Collapse.REDUCED),
        ({"class_entropy": 1.8}, Collapse.INTACT),
        ({"recall": 0.39}, Collapse.REDUCED),
        ({"recall": 0.4}, Collapse.INTACT),
        ({"recall": 0.0, "missing_share": 0.9}, Collapse.COLLAPSED),
        ({"class_entropy": 2.3, "recall": 1.0}, Collapse.INTACT),  # more than the reals
        ({**NO_CLASSES, "contrast": 7.9}, Collapse.EMPTY),
        ({**NO_CLASSES}, Collapse.INTACT),
        ({**NO_CLASSES, "recall": 0.39}, Collapse.REDUCED),
        ({**NO_CLASSES, "recall": 0.0}, Collapse.REDUCED),  # nobody is called collapsed
    ],
)
def test_verdict(changes: dict[str, float | None], verdict: Collapse) -> None:
    found = dataclasses.replace(FLOOR, **changes)
    floor = dataclasses.replace(FLOOR, **NO_CLASSES) if found.class_entropy is None else FLOOR
    assert judge_collapse(found, floor) is verdict


def test_rule_without_classes_speaks_of_none() -> None:
    assert "class entropy" in describe_rule()
    assert "class entropy" not in describe_rule(has_classes=False)
    assert "50% of the floor's" in describe_rule(has_classes=False)
