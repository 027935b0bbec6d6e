"""Classifiers that differ in the truncation of the latents of their training images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowledge_gaps.readings.cohorts import has_styles
from knowledge_gaps.readings.figures.style import PageFigure
from knowledge_gaps.readings.generalisation import DetectingSweep, draw_detecting_sweep
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.study.schema import ClassifierSweep, Study


class Truncation(DetectingSweep):
    """Detection of untruncated images against the truncation psi in training."""

    name, title, position = "truncation", "Truncation", 90
    axis, coordinates = "psi", frozenset({"psi"})
    metric = "truncation"

    def list_sweeps(self, study: Study) -> list[ClassifierSweep]:
        return [] if study.report.truncation is None else [study.report.truncation]

    def get_value(self, study: Study, gans: str, classifiers: str) -> float:
        return study.classifiers[classifiers].truncation

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        factor = "standard deviation of the latents"
        if has_styles(results.study):
            factor = "psi, share of the styles' distance from their mean,"
        label = f"truncation: {factor} in the classifiers' training"
        yield PageFigure(self.name, draw_detecting_sweep(content[0], self.axis, label))


READINGS = (Truncation(),)
