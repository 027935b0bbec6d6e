"""Figures of artifacts, of what classifiers look at, and of how alike they are, described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knowledge_gaps.analyses.agreement.figure import draw_agreement
from knowledge_gaps.analyses.artifacts import AttributionReading
from knowledge_gaps.analyses.attributions.figure import draw_agreement as draw_map_agreement
from knowledge_gaps.analyses.attributions.figure import draw_attributions
from knowledge_gaps.analyses.spectra.figure import draw_residuals, draw_spectra
from knowledge_gaps.readings.figures.page_figure import (
    DETECTIONS_SOURCE,
    PageFigure,
    make_chart,
    make_picture,
)
from knowledge_gaps.readings.mutual_fooling import order_by_cluster
from knowledge_gaps.report.evidence import Evidence
from knowledge_gaps.statistics.agreement import FOOLING_OTHERS
from knowledge_gaps.study import Study

_SHOWN = "Shown are the cohorts of the tables of iterations, and at most three of the phi sweep."


def draw_evidence(study: Study, mutual: Any, evidence: Evidence) -> Iterator[PageFigure]:
    """Draw every figure that the study has evidence for."""
    yield from _draw_agreement(mutual, evidence)
    yield from _draw_spectra(study, evidence)
    if evidence.attributions is not None:
        channels = _describe_channels(evidence, "summed")
        yield from _draw_attributions(evidence.attributions, channels)


def _draw_agreement(mutual: Any, evidence: Evidence) -> Iterator[PageFigure]:
    fooling = mutual["fooling"]
    if fooling is None or FOOLING_OTHERS not in evidence.agreement:
        return
    agreement = evidence.agreement[FOOLING_OTHERS]
    order = [
        instance
        for instance in order_by_cluster(fooling, mutual["clusters"])
        if instance in agreement.instances
    ]
    if len(order) < 2:
        return
    yield make_chart(
        "mutual_fooling",
        draw_agreement(agreement, order, fooling),
        "Three coloured matrices: mutual fooling, error consistency, likeness of features.",
        "Left: detection by each classifier (row) of the GANs that were trained to fool another "
        "one (column); the diagonal is the classifier in the loss. Middle and right: how far two "
        "classifiers make the same errors (Cohen's kappa of being correct) and how alike their "
        "features are (linear CKA), on images of the GANs that fool neither of the two. "
        "Classifiers are ordered by cluster.",
        f"{DETECTIONS_SOURCE}, classifiers of {fooling.cohort} on "
        f"{', '.join(fooling.gans)}; reports/agreement.csv",
    )


def _draw_spectra(study: Study, evidence: Evidence) -> Iterator[PageFigure]:
    yield make_chart(
        "spectra",
        draw_spectra(evidence.spectra),
        "Power against spatial frequency, and its ratio to that of the reals.",
        "Radially averaged power spectra: mean over all images of the squared Fourier amplitude "
        "on rings of one radius, each image less its mean. Below, the ratio to the test reals in "
        "decibels, with the range over the instances of a cohort; the floor is the train split "
        f"against the test split. {study.evaluation.num_images:,} images per generator. {_SHOWN}"
        f"{_describe_channels(evidence, 'averaged')}",
        "reports/spectra.csv",
    )
    yield make_picture(
        "residuals",
        draw_residuals(evidence.residuals),
        "Maps of residual spectra and of mean residuals, a column for each cohort.",
        "Residuals: an image less its median over 3 by 3 pixels. Above, the mean Fourier "
        "amplitude of the residuals against that of the test reals, frequency 0 in the middle; "
        "below, the mean residual less that of the test reals. Means over all images of all "
        "instances. Colours are linear near 0 and logarithmic beyond, one scale a row. "
        f"{_SHOWN}{_describe_channels(evidence, 'averaged')}",
        "data/spectra/COHORT/",
    )


def _describe_channels(evidence: Evidence, verb: str) -> str:
    """Say what was done with the channels of colour images; nothing of grey ones."""
    has_colours = len(evidence.residuals.reals.fingerprint) > 1
    return f" Colour channels are {verb}." if has_colours else ""


def _draw_attributions(reading: AttributionReading, channels: str) -> Iterator[PageFigure]:
    yield make_picture(
        "attributions",
        draw_attributions(reading),
        "Images beside maps of what speaks for real and for generated to several classifiers.",
        "Integrated gradients of the logit from a black image, on the same images for the "
        f"classifier of cohort {reading.classifier_cohort} in the loss of {reading.gans} and for "
        "held-out ones. Red speaks for real, blue for generated. Below, the mean of "
        "the absolute value over many images. The images are the first of each set, none picked."
        f"{channels}",
        "data/attributions/",
    )
    yield make_chart(
        "attribution_agreement",
        draw_map_agreement(reading),
        "Rank correlation of two classifiers' attribution maps, by set of images.",
        "How far two classifiers look at the same pixels: Spearman's correlation of their "
        "attributions, mean over images and its spread, for pairs with the classifier in the loss "
        "and for pairs of held-out ones.",
        "reports/attributions.csv",
    )
