"""Readings of the two tables along one axis, as sweeps of GAN cohorts or of classifier cohorts.

GAN cohorts differ in phi or in how many classifiers they fool; classifier cohorts in how many
generators they were trained on or in the truncation of their latents. Both keep the single pairs
beside their summaries, because the figures show them. The tables and the meaning of held_out are in
`knowledge_gaps.readings.tables`, the figures in `knowledge_gaps.readings.figures.sweeps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from knowledge_gaps.core.columns import (
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
    IN_LOSS,
)
from knowledge_gaps.readings.cells import CellKey, CohortCell
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.tables import (
    Summary,
    find_metric,
    select_pairs,
    summarise,
    summarise_quality,
    summarise_real_accuracy,
)
from knowledge_gaps.statistics.bootstrap import Interval
from knowledge_gaps.statistics.measures import (
    AUC,
    CLASS_ENTROPY,
    DETECTION_RATE,
    FID,
    REAL_ACCURACY,
)


@dataclass(frozen=True)
class FoolingRow:
    """One GAN cohort of a sweep.

    Attributes:
        cohort: name of the GAN cohort.
        value: what the sweep is along: phi, or the number of classifiers in the loss.
        classifiers: names of the classifier cohorts that look on.
        in_loss: detection rate over pairs with a classifier in the loss; empty for a baseline.
        held_out: detection rate over pairs with held-out instances of the same classifier cohorts.
        interval: 95 % interval of the mean of held_out; None for classifiers of several cohorts.
        held_out_auc: AUC over the same pairs as held_out.
        held_out_rates: detection rate of each of these pairs.
        real_accuracy: share of reals called real, over the held-out pairs' classifiers.
        quality: metrics over the cohort's instances, by the starts of their names.
        fids: FID of each instance; NaN where there is none.
        entropies: class entropy of each instance, in nats.
    """

    cohort: str
    value: float
    classifiers: tuple[str, ...]
    in_loss: Summary
    held_out: Summary
    interval: Interval | None
    held_out_auc: Summary
    held_out_rates: tuple[float, ...]
    real_accuracy: Summary
    quality: Mapping[str, Summary]
    fids: tuple[float, ...]
    entropies: tuple[float, ...]


@dataclass(frozen=True)
class HeldOutPair:
    """A classifier and a generator that it was not trained on.

    Attributes:
        classifier_instance: number in its cohort.
        generator_instance: number in its cohort.
        detection_rate: share of the generator's images called generated.
        auc: of this generator's images against the reals.
        is_common: no classifier cohort of the reading was trained on this generator.
    """

    classifier_instance: int
    generator_instance: int
    detection_rate: float
    auc: float
    is_common: bool


@dataclass(frozen=True)
class DetectingRow:
    """One classifier cohort of a sweep.

    Attributes:
        cohort: name of the classifier cohort.
        value: what the sweep is along: how many generators the classifiers were trained on, or the
            truncation of their latents.
        held_out: detection rate over pairs with held-out generators.
        interval: 95 % interval of the mean of held_out; None without a pair.
        held_out_auc: AUC over the same pairs.
        common: as held_out, over the generators that are held out from every cohort.
        in_training: detection rate over the generators that were trained on.
        real_accuracy: share of reals called real, over the instances.
        pairs: the single pairs of held_out.
    """

    cohort: str
    value: float
    held_out: Summary
    interval: Interval | None
    held_out_auc: Summary
    common: Summary
    in_training: Summary
    real_accuracy: Summary
    pairs: tuple[HeldOutPair, ...]


@dataclass(frozen=True)
class GeneralisationSweep:
    """Classifiers of one architecture that were trained on more and more generators.

    Attributes:
        gans: the GAN cohort that they were trained on.
        architecture: of the classifiers.
        rows: sorted by the number of generators.
    """

    gans: str
    architecture: str
    rows: tuple[DetectingRow, ...]


def make_fooling_sweep(
    detections: pd.DataFrame,
    quality: pd.DataFrame,
    cells: Mapping[CellKey, CohortCell],
    values: Mapping[str, float],
) -> tuple[FoolingRow, ...]:
    """Read what GAN cohorts along an axis do, sorted by it.

    The classifiers are those of the cohorts that any GAN of the sweep was trained to fool, so that
    a baseline cohort in the sweep is seen by the same eyes.

    Args:
        detections: as from `read_detections`.
        quality: as from `read_quality`.
        cells: of the same detections, for their intervals.
        values: place of each GAN cohort on the axis.
    """
    in_loss = detections[detections[IN_LOSS] & detections[GENERATOR_COHORT].isin(list(values))]
    fooled_cohorts = in_loss[CLASSIFIER_COHORT].unique()
    seen = detections[detections[CLASSIFIER_COHORT].isin(fooled_cohorts)]
    return tuple(
        _make_fooling_row(seen, quality, cells, place)
        for place in sorted(values.items(), key=lambda item: (item[1], item[0]))
    )


def make_detecting_sweep(
    detections: pd.DataFrame,
    cells: Mapping[CellKey, CohortCell],
    gans: str,
    values: Mapping[str, float],
) -> tuple[DetectingRow, ...]:
    """Read how well classifiers detect generators that they were not trained on.

    Args:
        detections: as from `read_detections`.
        cells: of the same detections, for their intervals.
        gans: the GAN cohort that the classifiers were trained on.
        values: place of each classifier cohort on the axis.

    Returns:
        Rows sorted along the axis.
    """
    rows = detections[detections[CLASSIFIER_COHORT].isin(list(values))]
    trained_on = set(select_pairs(rows, PairSet.IN_TRAINING, gans)[GENERATOR_INSTANCE])
    return tuple(
        _make_detecting_row(rows, cells, gans, place, trained_on)
        for place in sorted(values.items(), key=lambda item: (item[1], item[0]))
    )


def _make_fooling_row(
    detections: pd.DataFrame,
    quality: pd.DataFrame,
    cells: Mapping[CellKey, CohortCell],
    place: tuple[str, float],
) -> FoolingRow:
    cohort, value = place
    classifiers = tuple(detections[CLASSIFIER_COHORT].unique())
    held_out = select_pairs(detections, PairSet.HELD_OUT, cohort)
    in_loss = select_pairs(detections, PairSet.IN_LOSS, cohort)
    instances = quality[quality[GENERATOR_COHORT] == cohort]
    by_classifier = held_out.groupby([CLASSIFIER_COHORT, CLASSIFIER_INSTANCE])
    return FoolingRow(
        cohort=cohort,
        value=value,
        classifiers=classifiers,
        in_loss=summarise(in_loss[DETECTION_RATE]),
        held_out=summarise(held_out[DETECTION_RATE]),
        interval=_find_interval(cells, classifiers[0], cohort) if len(classifiers) == 1 else None,
        held_out_auc=summarise(held_out[AUC]),
        held_out_rates=tuple(held_out[DETECTION_RATE]),
        real_accuracy=summarise(by_classifier[REAL_ACCURACY].first()),
        quality=summarise_quality(quality, cohort),
        fids=tuple(instances[find_metric(quality, FID)]),
        entropies=tuple(instances[find_metric(quality, CLASS_ENTROPY)]),
    )


def _find_interval(
    cells: Mapping[CellKey, CohortCell], classifiers: str, gans: str
) -> Interval | None:
    cell = cells.get((PairSet.HELD_OUT, classifiers, gans))
    return None if cell is None else cell.measures[DETECTION_RATE]


def _make_detecting_row(
    detections: pd.DataFrame,
    cells: Mapping[CellKey, CohortCell],
    gans: str,
    place: tuple[str, float],
    trained_on: set[int],
) -> DetectingRow:
    cohort, value = place
    held_out = select_pairs(detections, PairSet.HELD_OUT, gans, cohort)
    in_training = select_pairs(detections, PairSet.IN_TRAINING, gans, cohort)
    pairs = tuple(
        HeldOutPair(
            classifier_instance=int(classifier),
            generator_instance=int(generator),
            detection_rate=float(rate),
            auc=float(auc),
            is_common=int(generator) not in trained_on,
        )
        for classifier, generator, rate, auc in zip(
            held_out[CLASSIFIER_INSTANCE],
            held_out[GENERATOR_INSTANCE],
            held_out[DETECTION_RATE],
            held_out[AUC],
            strict=True,
        )
    )
    return DetectingRow(
        cohort=cohort,
        value=value,
        held_out=summarise(held_out[DETECTION_RATE]),
        interval=_find_interval(cells, cohort, gans),
        held_out_auc=summarise(held_out[AUC]),
        common=summarise(pair.detection_rate for pair in pairs if pair.is_common),
        in_training=summarise(in_training[DETECTION_RATE]),
        real_accuracy=summarise_real_accuracy(detections, cohort),
        pairs=pairs,
    )
