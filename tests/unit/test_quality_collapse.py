"""Classes by hand, and every case of the verdict with its boundary."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pytest

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.evaluation.quality.classes import compute_class_entropy, count_missing_classes
from knowledge_gaps.evaluation.quality.features import measure_contrast
from knowledge_gaps.statistics.collapse import (
    Collapse,
    Diversity,
    describe_rule,
    judge_collapse,
)

FLOOR = Diversity(contrast=77.0, class_entropy=2.0, missing_share=0.0, recall=0.8)


def predict(*counts: int) -> npt.NDArray[np.float32]:
    """Make logits of so many images of each class."""
    return np.eye(len(counts), dtype=np.float32).repeat(counts, axis=0)


# ---------------------------------------------------------------------------------- classes


def test_class_entropy_of_uniform_classes_is_ln_10_and_of_one_class_0() -> None:
    logits = predict(*[7] * 10)
    assert compute_class_entropy(logits) == pytest.approx(math.log(10), abs=1e-12)
    assert compute_class_entropy(logits[:7]) == 0.0
    assert compute_class_entropy(logits[:14]) == pytest.approx(math.log(2), abs=1e-12)


def test_missing_classes_by_hand() -> None:
    real = predict(50, 30, 20, 0)  # a class is missing below 0.05, 0.03, 0.02 and 0
    assert count_missing_classes(predict(95, 3, 2, 0), real) == 0  # a tenth is enough
    assert count_missing_classes(predict(96, 3, 1, 0), real) == 1
    assert count_missing_classes(predict(0, 0, 0, 9), real) == 3
    assert count_missing_classes(predict(4, 96, 0, 0), real) == 2
    assert count_missing_classes(real, real) == 0


def test_missing_classes_do_not_depend_on_how_many_images_there_are() -> None:
    assert count_missing_classes(predict(1, 0), predict(900, 100)) == 1
    assert count_missing_classes(predict(99, 1), predict(9, 1)) == 0


@pytest.mark.parametrize("num_images", [(0, 3), (3, 0)])
def test_missing_classes_of_no_image_are_refused(num_images: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="missing classes: found 0 images"):
        count_missing_classes(*(predict(num, 0) for num in num_images))


def test_class_entropy_of_no_image_is_refused() -> None:
    with pytest.raises(UserError, match="class entropy: found 0 images"):
        compute_class_entropy(predict(0, 0))


# --------------------------------------------------------------------------------- contrast


def test_contrast_is_the_mean_deviation_within_images() -> None:
    images = np.zeros((2, 1, 4, 4), np.uint8)
    images[0, :, :2] = 255  # half white, half black
    assert measure_contrast(images) == 127.5 / 2


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 0, 40)])
def test_sheet_of_one_colour_has_no_contrast(colour: tuple[int, int, int]) -> None:
    sheet = np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, 4, 4))
    assert measure_contrast(np.stack([sheet, 255 - sheet])) == 0.0


# ---------------------------------------------------------------------------------- verdict


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
        ({"recall": 0.0}, Collapse.REDUCED),
        ({"recall": 0.0, "missing_share": 0.9}, Collapse.COLLAPSED),
        ({"class_entropy": 2.3, "recall": 1.0}, Collapse.INTACT),  # more than the reals
    ],
)
def test_verdict(changes: dict[str, float], verdict: Collapse) -> None:
    assert judge_collapse(dataclasses.replace(FLOOR, **changes), FLOOR) is verdict


def test_verdict_is_written_as_a_word() -> None:
    assert [str(word) for word in Collapse] == ["empty", "collapsed", "reduced", "intact"]


# ------------------------------------------------------------------------- without classes


@pytest.mark.parametrize(
    ("contrast", "recall", "expected"),
    [
        (7.9, 0.8, Collapse.EMPTY),
        (8.0, 0.8, Collapse.INTACT),
        (77.0, 0.39, Collapse.REDUCED),
        (77.0, 0.41, Collapse.INTACT),
        (77.0, 0.0, Collapse.REDUCED),  # one image again and again may be this, and is not told
    ],
)
def test_without_classes_contrast_and_recall_decide(
    contrast: float, recall: float, expected: Collapse
) -> None:
    floor = dataclasses.replace(FLOOR, class_entropy=None, missing_share=None)
    found = dataclasses.replace(floor, contrast=contrast, recall=recall)
    assert judge_collapse(found, floor) is expected


def test_rule_without_classes_speaks_of_none() -> None:
    assert "class entropy" in describe_rule()
    assert "class entropy" not in describe_rule(has_classes=False)
    assert "50% of the floor's" in describe_rule(has_classes=False)
