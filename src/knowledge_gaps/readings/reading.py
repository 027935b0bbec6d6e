"""A reading of a study's results, the base of every file of readings, and the list of them all."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import pandas as pd

from knowledge_gaps.core.tables import (
    CLASSIFIER_COHORT,
    GENERATOR_CHAIN,
    GENERATOR_COHORT,
    IN_LOSS,
)
from knowledge_gaps.readings.cells import ALL, PAIRS, READING, make_cells
from knowledge_gaps.readings.cohorts import list_fooled
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.tables import (
    CLASSIFIER,
    PairSet,
    Row,
    find_metric,
    summarise,
    summarise_quality,
)
from knowledge_gaps.readings.transfers import Transfers, compute_transfers
from knowledge_gaps.statistics.measures import AUC, DETECTION_RATE, METRICS, REAL_ACCURACY
from knowledge_gaps.study import Study

Place = tuple[str, str, dict[str, float]]  # GAN cohort, classifier cohort, coordinates
Metrics = dict[str, Any]  # of floats, nested


@dataclass(frozen=True, eq=False)
class Results:
    """What readings are made of; everything is computed once, when it is first asked for."""

    root: Path  # of the repository; images and curves are below it
    study: Study  # names the readings and their cohorts
    detections: pd.DataFrame  # as from `tables.read_detections`
    quality: pd.DataFrame  # as from `tables.read_quality`
    seed: int  # of permutations
    _contents: dict[str, Any] = field(default_factory=dict, init=False)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The frame of `cells.make_cells`, with the places of every reading that is asked for."""
        asked = [each for each in list_readings().values() if each.is_asked(self.study)]
        places = [(each.name, *place) for each in asked for place in each.list_shown(self.study)]
        return make_cells(self.detections, places, self.transfers)

    @cached_property
    def transfers(self) -> Transfers:
        """How far fooling reaches held-out classifiers, see `readings.transfers`."""
        return compute_transfers(self.study, self.detections)

    @cached_property
    def _blocks(self) -> dict[tuple[Any, ...], pd.DataFrame]:
        return dict(iter(self.detections.groupby([GENERATOR_COHORT, CLASSIFIER_COHORT])))

    def list_pairs(self, pairs: PairSet, gans: str, classifiers: str) -> pd.DataFrame:
        """List the pairs of two cohorts, as `tables.select_pairs` does for a single time."""
        block = self._blocks.get((gans, classifiers), self.detections[:0])
        return block[pairs.select(block)]

    @cached_property
    def in_loss(self) -> pd.DataFrame:
        """Rate and area by the classifiers in the loss of each GAN cohort, means over chains."""
        rows = self.detections[self.detections[IN_LOSS]]
        means = rows.groupby([GENERATOR_COHORT, GENERATOR_CHAIN])[[DETECTION_RATE, AUC]].mean()
        return means.groupby(GENERATOR_COHORT).mean()

    def select(self, reading: str, pairs: str) -> list[Row]:
        """Select a reading's cells of a `PairSet`, in the order of its places."""
        is_chosen = (self.cells[READING] == reading) & (self.cells[PAIRS] == str(pairs))
        return cast("list[Row]", self.cells[is_chosen].to_dict("records"))

    def find(self, pairs: str, classifiers: str, gans: str) -> Row | None:
        """Return the cell of two cohorts; None when it has no pair."""
        cohorts, rows = (classifiers, gans), self.select(ALL, pairs)
        found = (row for row in rows if (row[CLASSIFIER_COHORT], row[GENERATOR_COHORT]) == cohorts)
        return next(found, None)

    def read(self, name: str) -> Any:
        """Return the content of a reading by its name."""
        if name not in self._contents:
            self._contents[name] = list_readings()[name].read(self)
        return self._contents[name]

    @cached_property
    def quality_rows(self) -> dict[str, Row]:
        """Every metric of each GAN cohort of the study, as of `tables.summarise`."""
        return {cohort: summarise_quality(self.quality, cohort) for cohort in self.study.gans}

    @cached_property
    def accuracy_rows(self) -> dict[str, Row]:
        """Accuracy on reals over the instances of each classifier cohort, as of `summarise`."""
        by_instance = self.detections.drop_duplicates(CLASSIFIER)
        accuracy = by_instance.set_index(CLASSIFIER_COHORT)[REAL_ACCURACY]
        return {name: summarise(accuracy[[name]], REAL_ACCURACY) for name in self.study.classifiers}

    @cached_property
    def metric_names(self) -> dict[str, str]:
        """Full names of the metrics, such as {"fid": "fid_lenet_4k"}."""
        return {metric: find_metric(self.quality, metric) for metric in METRICS}


class Reading:
    """One way to read the results: which cells, what is drawn of them, what metrics.json has.

    The page includes the template sections/NAME.html.j2 of each reading that the study asks for.
    """

    name: str  # key in the section report of params.yaml, of the anchor and of the template
    title: str  # in the page's navigation
    position: ClassVar[int]  # on the page, from the top
    coordinates: ClassVar[frozenset[str]] = frozenset()  # of its cells, which claims select by

    def is_asked(self, study: Study) -> bool:
        """Say whether the study asks for this reading; one without a key is always made."""
        return bool(getattr(study.report, self.name, True))

    def list_gans(self, study: Study) -> list[tuple[str, dict[str, float]]]:
        """List the GAN cohorts with the coordinates that they have by themselves."""
        return [(name, {}) for name in getattr(study.report, self.name, [])]

    def list_cells(self, study: Study) -> list[Place]:
        """List the pairs of cohorts with their coordinates: by default, the classifier cohorts that
        any of the GANs is trained to fool, on each of the GANs.
        """
        gans = self.list_gans(study)
        fooled = sorted({name for cohort, _ in gans for name in list_fooled(study, cohort)})
        return [(cohort, name, dict(place)) for cohort, place in gans for name in fooled]

    def list_shown(self, study: Study) -> list[Place]:
        """List the cells of the frame: those that claims select from, and what is shown beside."""
        return self.list_cells(study)

    def read(self, results: Results) -> Any:
        """Return what the page, figures and metrics show: the `content` of the other methods, and
        of the template as readings.NAME.
        """
        return results.select(self.name, PairSet.HELD_OUT)

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        """Draw figures, whose words are in the template; by default none."""
        yield from ()

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        """Return groups of metrics.json; NaN and empty groups are left out there."""
        return {}

    def make_plots(self, results: Results, content: Any) -> Mapping[str, pd.DataFrame]:
        """Return tables for `dvc plots` by file name; without rows where nothing was asked."""
        return {}


@cache
def list_readings() -> dict[str, Reading]:
    """List the readings in the page's order: this folder's classes with a position of their own."""
    package = importlib.import_module(__package__)
    readings = [
        value()
        for module in pkgutil.iter_modules(package.__path__)
        for value in vars(importlib.import_module(f"{__package__}.{module.name}")).values()
        if isinstance(value, type) and issubclass(value, Reading) and "position" in vars(value)
    ]
    return {each.name: each for each in sorted(readings, key=lambda each: each.position)}
