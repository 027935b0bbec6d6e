"""Judges outside the loop: do detectors that took part in no loss still tell GANs that fool
classifiers from reals?
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from knowledge_gaps.core.tables import (
    CLASSIFIER_COHORT,
    GENERATOR_CHAIN,
    GENERATOR_COHORT,
    IN_TRAINING,
    JUDGE,
    POOL,
)
from knowledge_gaps.evaluation.judging import choose_judges
from knowledge_gaps.readings.cohorts import list_fooled
from knowledge_gaps.readings.reading import Metrics, Place, Reading, Results
from knowledge_gaps.readings.tables import PairSet, Row, bound_shares, read_judges
from knowledge_gaps.statistics.chains import Floats
from knowledge_gaps.statistics.measures import AUC, DETECTION_RATE, JUDGE_BEST_AUC, REAL_ACCURACY
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_detected

_MEASURES = (DETECTION_RATE, REAL_ACCURACY, AUC)


class Judged(NamedTuple):
    """A GAN cohort by classifiers of one cohort, and by judges trained on what these detect."""

    in_loss: Row  # cell of the classifiers in the loss; without a pair where there are none
    held_out: Row  # cell of the others
    # by judge, over generators that it was not trained on: measures as of `bound_shares`
    judges: dict[str, Row]
    best: str | None  # the judge with the largest AUC; None where no judge has one

    @property
    def gans(self) -> str:
        """The name of the GAN cohort."""
        return str(self.held_out[GENERATOR_COHORT])

    @property
    def is_fooling(self) -> bool:
        """Whether a classifier of the cohort is in the loss of these GANs."""
        return bool(self.in_loss["num_pairs"] > 0)

    @property
    def best_row(self) -> Row:
        """The numbers of the best judge, which there must be."""
        assert self.best is not None
        return self.judges[self.best]


class JudgesContent(NamedTuple):
    """What the page shows of judges."""

    names: list[str]  # of the judges
    tables: dict[str, list[Judged]]  # by classifier cohort: GANs that fool it, and its own kind
    best: dict[str, Judged]  # by GAN cohort that fools classifiers: where a judge does best
    # by GAN and classifier cohort: the largest AUC of a judge in each chain, float64 [S]
    best_aucs: dict[tuple[str, str], Floats]


class Judges(Reading):
    """Detectors that took part in no loss on the GANs that fool classifiers.

    A judge is trained on the pool that a classifier in the loss detects. Beside the GANs that fool
    classifiers of a cohort there are those of this pool, for what judges can see at all.
    """

    name, title, position = "judges", "Judges outside the loop", 92

    def is_asked(self, study: Study) -> bool:
        return study.evaluation.judges != [] and len(self.list_gans(study)) > 0

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        """List the cohorts that fool classifiers."""
        return [(name, {}) for name, gans in study.gans.items() if gans.phi > 0]

    def list_cells(self, study: Study) -> list[Place]:
        """List each classifier cohort with the GANs that fool one of its classifiers."""
        fooled = {name: list_fooled(study, name) for name, _ in self.list_gans(study)}
        pairs = ((gans, each) for each in study.classifiers for gans in fooled)
        return [(gans, each, {}) for gans, each in pairs if each in fooled[gans]]

    def list_shown(self, study: Study) -> list[Place]:
        """List the cells, and in front of a classifier cohort's those of the GANs of its pool."""
        pools = list_detected(study)
        shown: list[tuple[str, str]] = []
        for gans, classifiers, _ in self.list_cells(study):
            of_pool = [cohort for cohort, _ in pools[study.classifiers[classifiers].detects]]
            shown += [(each, classifiers) for each in (*of_pool, gans)]
        return [(gans, classifiers, {}) for gans, classifiers in dict.fromkeys(shown)]

    def read(self, results: Results) -> JudgesContent | None:
        """Return tables and the best judges; None when the study has no judge or nothing to judge.

        Raises:
            UserError: when judges.csv is missing or malformed, or lacks a row of the study.
        """
        if not self.is_asked(study := results.study):
            return None
        names = choose_judges(study.evaluation)
        table = read_judges(results.root, study, names)
        sets = (results.select(self.name, pairs) for pairs in (PairSet.IN_LOSS, PairSet.HELD_OUT))
        tables: dict[str, list[Judged]] = {}
        for in_loss, held_out in zip(*sets, strict=True):
            gans, classifiers = held_out[GENERATOR_COHORT], held_out[CLASSIFIER_COHORT]
            pool = study.classifiers[classifiers].detects
            judges = _bound_judges(table, names, pool, gans)
            judged = Judged(in_loss, held_out, judges, _find_best(judges))
            if held_out["num_pairs"] > 0 or judged.best is not None:
                tables.setdefault(classifiers, []).append(judged)
        best = _choose_best(each for rows in tables.values() for each in rows)
        best_aucs = {
            (gans, classifiers): _find_best_aucs(table, study, gans, classifiers)
            for gans, classifiers, _ in self.list_shown(study)
        }
        return JudgesContent(names, tables, best, best_aucs)

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        """List the AUC of the best judge on each cohort that fools classifiers."""
        aucs = {gans: judged.best_row[AUC] for gans, judged in content.best.items()}
        return {JUDGE_BEST_AUC: aucs}


def _bound_judges(
    table: pd.DataFrame, judges: Iterable[str], pool: str, gans: str
) -> dict[str, Row]:
    """Bound each judge's measures over generators of a cohort that it was not trained on."""
    is_chosen = (table[POOL] == pool) & (table[GENERATOR_COHORT] == gans) & ~table[IN_TRAINING]
    rows = table[is_chosen]
    return {judge: bound_shares(rows[rows[JUDGE] == judge], _MEASURES) for judge in judges}


def _find_best_aucs(table: pd.DataFrame, study: Study, gans: str, classifiers: str) -> Floats:
    is_chosen = table[POOL] == study.classifiers[classifiers].detects
    rows = table[is_chosen & (table[GENERATOR_COHORT] == gans) & ~table[IN_TRAINING]]
    aucs = rows.groupby([GENERATOR_CHAIN, JUDGE])[AUC].mean().groupby(GENERATOR_CHAIN).max()
    return aucs.reindex(range(study.study.chains)).to_numpy(np.float64)


def _find_best(judges: dict[str, Row]) -> str | None:
    known = {name: row[AUC] for name, row in judges.items() if math.isfinite(row[AUC])}
    return max(known, key=known.__getitem__, default=None)


def _choose_best(every: Iterable[Judged]) -> dict[str, Judged]:
    """Choose, of the rows of each GAN cohort that fools classifiers, that of the largest AUC."""
    best: dict[str, Judged] = {}
    for judged in every:
        if judged.is_fooling and judged.best is not None:
            known = best.get(judged.gans, judged)
            is_better = judged.best_row[AUC] > known.best_row[AUC]
            best[judged.gans] = judged if is_better else known
    return best
