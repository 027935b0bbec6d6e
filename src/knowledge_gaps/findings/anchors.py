"""Anchors: is a study in the paper's regime?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from knowledge_gaps.findings.effects import bound, choose_sides
from knowledge_gaps.findings.schema import Anchor, Findings
from knowledge_gaps.findings.sources import NotAskedError, Source
from knowledge_gaps.statistics.chains import Interval


@dataclass(frozen=True)
class Mark:
    """An anchor in a study: whether it is reached, None where it is not asked."""

    anchor: Anchor
    effect: Interval
    is_reached: bool | None


def mark_anchors(findings: Findings, source: Source, setting: tuple[str, str]) -> list[Mark]:
    """Compare a study with every anchor; in another setting than the pilot's none is asked.

    The setting is that of a study: its dataset and extractor.
    """
    marks = []
    pilot = findings.pilot.setting.dataset, findings.pilot.setting.extractor
    for anchor in findings.anchors:
        try:
            left, right = choose_sides(anchor, source)
        except NotAskedError:
            left = []
        if not left or setting != pilot:
            marks.append(Mark(anchor, Interval(), None))
            continue
        effect = bound(anchor, findings, left, right)
        low = -math.inf if anchor.at_least is None else anchor.at_least
        high = math.inf if anchor.at_most is None else anchor.at_most
        marks.append(Mark(anchor, effect, low <= effect.point <= high))
    return marks
