"""Classifiers that differ in the truncation of the latents of their training images."""

from __future__ import annotations

from knowledge_gaps.readings.cohorts import has_styles
from knowledge_gaps.readings.generalisation import DetectingSweep
from knowledge_gaps.study import ClassifierSweep, Study


class Truncation(DetectingSweep):
    """Detection of untruncated images against the truncation psi in training."""

    name, title, position = "truncation", "Truncation", 90
    axis, coordinates = "psi", frozenset({"psi"})
    metric = "truncation"

    def list_sweeps(self, study: Study) -> list[ClassifierSweep]:
        return [] if study.report.truncation is None else [study.report.truncation]

    def get_value(self, study: Study, gans: str, classifiers: str) -> float:
        return study.classifiers[classifiers].truncation

    def label_axis(self, study: Study) -> str:
        factor = "standard deviation of the latents"
        if has_styles(study):
            factor = "psi, share of the styles' distance from their mean,"
        return f"truncation: {factor} in the classifiers' training"


READINGS = (Truncation(),)
