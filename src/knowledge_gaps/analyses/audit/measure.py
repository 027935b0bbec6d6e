"""The shortcut audit's rows and verdicts.

A classifier that tells reals from generated images may see what they show, or only how they were
converted and stored. Reals that went the generated images' way (`knowledge_gaps.analyses.audit.replay`)
must look to it like other reals, and must come back byte by byte. What is trained, and on what, is
known by `knowledge_gaps.stages.audit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from knowledge_gaps.evaluation.detection import (
    Scores,
    measure_detection,
)
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA, adjust_holm, compare_scores
from knowledge_gaps.statistics.measures import (
    AUC,
    DETECTION_RATE,
    REAL_ACCURACY,
)

NO_FAULT = "none"

CHECK = "check"
P_VALUE = "p_value"
P_HOLM = "p_holm"
VERDICT = "verdict"
COLUMNS = (
    CHECK,
    "subject",
    "fault",
    "instance",
    "steps",
    "num_images",
    DETECTION_RATE,
    REAL_ACCURACY,
    AUC,
    P_VALUE,
    P_HOLM,
    "num_defects",
    VERDICT,
)

Row = dict[str, Any]


class Check(StrEnum):
    """What a row of the audit is about."""

    REPLAY = "replay"  # a classifier of reals against replayed reals
    CONTROL = "control"  # the same with a known fault in the replay, which must be found
    ROUND_TRIP = "round_trip"  # images that go the generated images' way, byte by byte
    SAMPLE_FILES = "sample_files"  # dtype, shape and range of the stored samples


class Verdict(StrEnum):
    """What a row of the audit came to; a control is found or not, everything else holds or not."""

    PASS = "pass"
    FAIL = "fail"
    FOUND = "found"
    NOT_FOUND = "not_found"


def measure_replay(scores_replayed: Scores, scores_real: Scores) -> dict[str, float]:
    """Say how well a classifier tells replayed reals from other reals.

    Args:
        scores_replayed: logits float32 [N].
        scores_real: logits float32 [M].

    Returns:
        detection_rate, real_accuracy and auc as `measure_detection`; p_value of an area under the
        ROC curve that differs from chance.

    Raises:
        FloatingPointError: when a score is not finite.
    """
    measured = measure_detection(scores_replayed, scores_real)
    return {
        **{name: measured[name] for name in (DETECTION_RATE, REAL_ACCURACY, AUC)},
        P_VALUE: compare_scores(scores_replayed, scores_real),
    }


def judge_classifiers(rows: Sequence[Row]) -> list[Row]:
    """Add verdicts to the rows of all trained classifiers of an audit.

    A replay fails when its p-value, adjusted by Holm's method over all replays, is below
    AUDIT_ALPHA. A control is found when its own p-value is.

    Args:
        rows: of the checks REPLAY and CONTROL, with their p-values.

    Returns:
        The same rows in the same order, with p_holm (None for a control) and verdict.
    """
    adjusted = iter(adjust_holm([row[P_VALUE] for row in rows if row[CHECK] == Check.REPLAY]))
    judged: list[Row] = []
    for row in rows:
        if row[CHECK] == Check.REPLAY:
            p_holm = float(next(adjusted))
            verdict = Verdict.FAIL if p_holm < AUDIT_ALPHA else Verdict.PASS
            judged.append({**row, P_HOLM: p_holm, VERDICT: verdict})
        else:
            verdict = Verdict.FOUND if row[P_VALUE] < AUDIT_ALPHA else Verdict.NOT_FOUND
            judged.append({**row, P_HOLM: None, VERDICT: verdict})
    return judged


def make_exact_row(check: Check, subject: str, num_images: int, num_defects: int) -> Row:
    """Make the row of an exact check, which allows no defect.

    Args:
        check: ROUND_TRIP, whose defects are changed bytes, or SAMPLE_FILES, whose defects are
            files that are stored in another way than the reals.
        subject: which images.
        num_images: that were checked.
        num_defects: that were found.
    """
    return {
        CHECK: check,
        "subject": subject,
        "fault": NO_FAULT,
        "num_images": num_images,
        "num_defects": num_defects,
        VERDICT: Verdict.PASS if num_defects == 0 else Verdict.FAIL,
    }


def count_changed_bytes(images: npt.NDArray[np.uint8], returned: npt.NDArray[np.uint8]) -> int:
    """Count the bytes in which two sets of stored images differ; all when their shapes do."""
    if images.shape != returned.shape:
        return max(images.size, returned.size)
    return int(np.count_nonzero(images != returned))


def is_stored_alike(
    samples: npt.NDArray[np.generic], num_images: int, reals: npt.NDArray[np.generic]
) -> bool:
    """Tell whether a sample file is stored as the reals are.

    Args:
        samples: as read from the file.
        num_images: how many it should hold.
        reals: as read from theirs, [N, C, H, W].

    Returns:
        Whether dtype, shape and order of the bytes are the same, and all values lie between the
        reals' lowest and highest.
    """
    is_same_form = (
        samples.dtype == reals.dtype
        and samples.shape == (num_images, *reals.shape[1:])
        and samples.flags.c_contiguous == reals.flags.c_contiguous
    )
    return bool(is_same_form and reals.min() <= samples.min() and samples.max() <= reals.max())
