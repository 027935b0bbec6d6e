"""Readings of the two tables along one axis: the weight phi, and the number of generators.

Both keep the single pairs beside their summaries, because the figures show them. The tables and
the meaning of held_out are in `knowledge_gaps.report.readings.tables`, the figures in
`knowledge_gaps.report.figures.sweeps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from knowledge_gaps.report.readings.columns import (
    AUC,
    CLASSIFIER_COHORT,
    CLASSIFIER_INSTANCE,
    DETECTION_RATE,
    GENERATOR_COHORT,
    GENERATOR_INSTANCE,
    IN_LOSS,
    REAL_ACCURACY,
)
from knowledge_gaps.report.readings.tables import (
    CLASS_ENTROPY,
    FID,
    PairSet,
    Summary,
    find_metric,
    select_pairs,
    summarise,
    summarise_quality,
    summarise_real_accuracy,
)


@dataclass(frozen=True)
class PhiRow:
    """One GAN cohort of the phi sweep.

    Attributes:
        cohort: name of the GAN cohort.
        phi: weight of the fooling term.
        in_loss: detection rate over pairs with a classifier in the loss; empty for a baseline.
        held_out: detection rate over pairs with held-out instances of the same classifier cohorts.
        held_out_auc: AUC over the same pairs as held_out.
        held_out_rates: detection rate of each of these pairs.
        real_accuracy: share of reals called real, over the held-out pairs' classifiers.
        quality: metrics over the cohort's instances, by the starts of their names.
        fids: FID of each instance; NaN where there is none.
        entropies: class entropy of each instance, in nats.
    """

    cohort: str
    phi: float
    in_loss: Summary
    held_out: Summary
    held_out_auc: Summary
    held_out_rates: tuple[float, ...]
    real_accuracy: Summary
    quality: Mapping[str, Summary]
    fids: tuple[float, ...]
    entropies: tuple[float, ...]


@dataclass(frozen=True)
class GeneralisationPair:
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
class GeneralisationRow:
    """One classifier cohort, trained on a number of generators.

    Attributes:
        cohort: name of the classifier cohort.
        num_generators: how many generators of the reading the classifiers were trained on.
        held_out: detection rate over pairs with held-out generators.
        held_out_auc: AUC over the same pairs.
        common: as held_out, over the generators that are held out from every cohort.
        in_training: detection rate over the generators that were trained on.
        real_accuracy: share of reals called real, over the instances.
        pairs: the single pairs of held_out.
    """

    cohort: str
    num_generators: int
    held_out: Summary
    held_out_auc: Summary
    common: Summary
    in_training: Summary
    real_accuracy: Summary
    pairs: tuple[GeneralisationPair, ...]


def make_phi_sweep(
    detections: pd.DataFrame, quality: pd.DataFrame, phis: Mapping[str, float]
) -> tuple[PhiRow, ...]:
    """Read what a rising phi does, sorted by phi.

    The classifiers are those of the cohorts that any GAN of the sweep was trained to fool, so that
    a baseline cohort in the sweep is seen by the same eyes.

    Args:
        detections: as from `read_detections`.
        quality: as from `read_quality`.
        phis: phi of each GAN cohort.
    """
    in_loss = detections[detections[IN_LOSS] & detections[GENERATOR_COHORT].isin(list(phis))]
    fooled_cohorts = in_loss[CLASSIFIER_COHORT].unique()
    seen = detections[detections[CLASSIFIER_COHORT].isin(fooled_cohorts)]
    return tuple(
        _make_phi_row(seen, quality, cohort, phi)
        for cohort, phi in sorted(phis.items(), key=lambda item: (item[1], item[0]))
    )


def make_generalisation(
    detections: pd.DataFrame, gans: str, nums: Mapping[str, int]
) -> tuple[GeneralisationRow, ...]:
    """Read how well classifiers detect generators that they were not trained on.

    Args:
        detections: as from `read_detections`.
        gans: the GAN cohort that the classifiers were trained on.
        nums: how many generators of `gans` each classifier cohort was trained on.

    Returns:
        Rows sorted by the number of generators.
    """
    rows = detections[detections[CLASSIFIER_COHORT].isin(list(nums))]
    trained_on = set(select_pairs(rows, PairSet.IN_TRAINING, gans)[GENERATOR_INSTANCE])
    return tuple(
        _make_generalisation_row(rows, gans, cohort, num_generators, trained_on)
        for cohort, num_generators in sorted(nums.items(), key=lambda item: (item[1], item[0]))
    )


def _make_phi_row(
    detections: pd.DataFrame, quality: pd.DataFrame, cohort: str, phi: float
) -> PhiRow:
    held_out = select_pairs(detections, PairSet.HELD_OUT, cohort)
    in_loss = select_pairs(detections, PairSet.IN_LOSS, cohort)
    instances = quality[quality[GENERATOR_COHORT] == cohort]
    by_classifier = held_out.groupby([CLASSIFIER_COHORT, CLASSIFIER_INSTANCE])
    return PhiRow(
        cohort=cohort,
        phi=phi,
        in_loss=summarise(in_loss[DETECTION_RATE]),
        held_out=summarise(held_out[DETECTION_RATE]),
        held_out_auc=summarise(held_out[AUC]),
        held_out_rates=tuple(held_out[DETECTION_RATE]),
        real_accuracy=summarise(by_classifier[REAL_ACCURACY].first()),
        quality=summarise_quality(quality, cohort),
        fids=tuple(instances[find_metric(quality, FID)]),
        entropies=tuple(instances[find_metric(quality, CLASS_ENTROPY)]),
    )


def _make_generalisation_row(
    detections: pd.DataFrame, gans: str, cohort: str, num_generators: int, trained_on: set[int]
) -> GeneralisationRow:
    held_out = select_pairs(detections, PairSet.HELD_OUT, gans, cohort)
    in_training = select_pairs(detections, PairSet.IN_TRAINING, gans, cohort)
    pairs = tuple(
        GeneralisationPair(
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
    return GeneralisationRow(
        cohort=cohort,
        num_generators=num_generators,
        held_out=summarise(held_out[DETECTION_RATE]),
        held_out_auc=summarise(held_out[AUC]),
        common=summarise(pair.detection_rate for pair in pairs if pair.is_common),
        in_training=summarise(in_training[DETECTION_RATE]),
        real_accuracy=summarise_real_accuracy(detections, cohort),
        pairs=pairs,
    )
