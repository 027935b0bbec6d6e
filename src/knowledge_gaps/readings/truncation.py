"""Classifiers that differ in the truncation of the latents of their training images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowledge_gaps.readings.figures import sweeps
from knowledge_gaps.readings.figures.page_figure import DETECTIONS_SOURCE, PageFigure, make_chart
from knowledge_gaps.readings.generalisation import DetectingSweep, draw_detecting_sweep
from knowledge_gaps.readings.reading import Metrics, Results
from knowledge_gaps.readings.words import has_styles
from knowledge_gaps.study import ClassifierSweep, Study


class Truncation(DetectingSweep):
    """Detection of untruncated images against the truncation psi in training."""

    name, title, position = "truncation", "Truncation", 90
    axis = "psi"

    def list_sweeps(self, study: Study) -> list[ClassifierSweep]:
        return [] if study.report.truncation is None else [study.report.truncation]

    def get_value(self, study: Study, gans: str, classifiers: str) -> float:
        return study.classifiers[classifiers].truncation

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        factor = "standard deviation of the latents"
        if has_styles(results.study):
            factor = "psi, share of the styles' distance from their mean,"
        label = f"truncation: {factor} in the classifiers' training"
        yield make_chart(
            self.name,
            draw_detecting_sweep(content[0], self.axis, label),
            "Detection rate of held-out generators against the truncation in training.",
            "Classifiers were trained on images of truncated latents (1 is no truncation) and see "
            f"images of untruncated ones. Each dot is one classifier and one generator "
            f"({results.images}). {sweeps.BARS}",
            f"{DETECTIONS_SOURCE}, rows of these classifier cohorts with in_training = false",
        )

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        return {self.name: self.list_metrics(content, self.name)}


READINGS = (Truncation(),)
