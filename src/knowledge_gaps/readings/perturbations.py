"""Whether fooling GANs closed a gap or masked it: classifiers asked again on perturbed images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.core import layout, tables
from knowledge_gaps.core.tables import Cast
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.cohorts import (
    Name,
    list_fooled,
    list_fooling,
    list_perturbed_pairs,
    list_references,
    list_table_cohorts,
)
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.reading import Metrics, Reading, Results
from knowledge_gaps.readings.tables import (
    CLASSIFIER,
    GENERATOR,
    INSTANCES,
    Row,
    bound_shares,
    find_rows,
    summarise,
)
from knowledge_gaps.statistics.chains import Floats
from knowledge_gaps.statistics.measures import AUC, PERTURBED_MEASURES, REAL_ACCURACY
from knowledge_gaps.statistics.rules import (
    CHANCE,
    GONE_MARGIN,
    PRISTINE,
    REFERENCE_AUC,
    Gap,
    judge_gap,
    list_telling,
)
from knowledge_gaps.study import Study

_COLUMNS = {
    tables.PERTURBATION: Cast.NAME,
    **INSTANCES,
    tables.IN_LOSS: Cast.FLAG,
    tables.IN_TRAINING: Cast.FLAG,
    tables.NUM_IMAGES: Cast.COUNT,
    **dict.fromkeys(PERTURBED_MEASURES, Cast.SHARE),
}
_PARTS = {  # of a cohort's rows: colour and marker in the figure, label
    "reference": (figures.GREEN, "D", "reference, held-out classifiers"),
    "in_loss": (figures.ORANGE, "s", "classifiers in the loss"),
    "held_out": (figures.BLUE, "o", "held-out classifiers (lines: all pairs)"),
}
_NUM_PANELS = 12  # at most
_NUM_COLUMNS = 4
_ROW_HEIGHT_IN = 0.15  # of a perturbation
_PANEL_FRAME_IN = 0.55
_LEGEND_IN = 0.5


@dataclass(frozen=True, eq=False)
class FoolingCohort:
    """A cohort of fooling GANs under every perturbation."""

    gap: Gap
    telling: tuple[str, ...]  # perturbations under which the reference is detected
    rows: Mapping[str, Mapping[str, Row]]  # by perturbation, then by part: see `_bound`

    @property
    def auc(self) -> float:
        """Area under the ROC curve of held-out classifiers on unchanged images; NaN without one."""
        return self._get_auc(PRISTINE)

    @property
    def highest(self) -> str | None:
        """The perturbation, of those that tell, under which that area is largest."""
        known = [name for name in self.telling if math.isfinite(self._get_auc(name))]
        return max(known, key=self._get_auc, default=None)

    @property
    def highest_auc(self) -> float:
        """The area under that perturbation; NaN where none tells."""
        return math.nan if self.highest is None else self._get_auc(self.highest)

    def _get_auc(self, perturbation: str) -> float:
        return float(self.rows[perturbation]["held_out"][AUC])


class Perturbations(Reading):
    """Classifiers in the loss, held-out ones and their reference, by fooling cohort."""

    name, title, position = "perturbations", "Perturbations", 100

    def is_asked(self, study: Study) -> bool:
        return study.evaluation.perturbations != [] and bool(list_fooling(study))

    def read(self, results: Results) -> dict[str, FoolingCohort]:
        """Return every fooling cohort by name; nothing where the study asks for no perturbation.

        Raises UserError when the table is missing or malformed, or lacks a row.
        """
        if not self.is_asked(results.study):
            return {}
        reports = layout.get_reports(results.root, results.study.study.name)
        path = reports / layout.PERTURBATIONS_FILE
        table = read_perturbations(path, results.study)
        return {
            gans: read_cohort(table, results.study, gans) for gans in list_fooling(results.study)
        }

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        first = [name for name in list_table_cohorts(results.study) if name in content]
        shown = list(dict.fromkeys([*first, *content]))[:_NUM_PANELS]
        figure = draw_areas({name: content[name] for name in shown})
        yield PageFigure(self.name, figure, facts={"num_cohorts": len(shown)})

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        """List areas of held-out classifiers by GAN cohort, and count the verdicts."""
        areas = {
            name: {
                "held_out_auc": cohort.auc,
                "held_out_auc_highest": cohort.highest_auc,
                "num_telling": float(len(cohort.telling)),
            }
            for name, cohort in content.items()
        }
        verdicts = [cohort.gap for cohort in content.values()]
        return {
            self.name: areas,
            "gaps": {gap.value: float(verdicts.count(gap)) for gap in Gap},
        }


def read_perturbations(path: Path, study: Study) -> pd.DataFrame:
    """Read perturbations.csv: a row per perturbation and pair of the study; raises UserError.

    Each perturbation that the study lists, else that the table names, has a row of each pair; so
    has that of no change.
    """
    frame = tables.read_columns(path, _COLUMNS)
    keys = [tables.PERTURBATION, *GENERATOR, *CLASSIFIER]
    tables.check_unique(path, frame, keys)
    asked = study.evaluation.perturbations
    names = list(frame[tables.PERTURBATION]) if asked is None else asked
    needed = [
        (name, *_flatten(generator), *_flatten(classifier))
        for name in dict.fromkeys([PRISTINE, *names])
        for generator, classifier in list_perturbed_pairs(study)
    ]
    return frame[find_rows(path, frame, keys, needed)]


def read_cohort(table: pd.DataFrame, study: Study, gans: str) -> FoolingCohort:
    """Bound and judge a cohort of fooling GANs, of a table as of `read_perturbations`."""
    fooled = list(dict.fromkeys(list_fooled(study, gans)))
    asked = table[table[tables.CLASSIFIER_COHORT].isin(fooled)]
    fooling = asked[asked[tables.GENERATOR_COHORT] == gans]
    held_out = fooling[~fooling[tables.IN_LOSS]]
    # the same held-out classifiers, each on its own references
    references = {(*_flatten(one), name) for name in fooled for one in list_references(study, name)}
    keys = pd.MultiIndex.from_frame(asked[[*GENERATOR, tables.CLASSIFIER_COHORT]])
    is_same = _index(asked, CLASSIFIER).isin(_index(held_out, CLASSIFIER))
    parts = {
        "reference": asked[keys.isin(references) & is_same],
        "in_loss": fooling[fooling[tables.IN_LOSS]],
        "held_out": held_out,
    }
    names = list(dict.fromkeys(table[tables.PERTURBATION]))
    blocks = {
        name: {part: rows[rows[tables.PERTURBATION] == name] for part, rows in parts.items()}
        for name in names
    }
    aucs = {
        part: {name: _list_by_chain(blocks[name][part]) for name in names}
        for part in ("held_out", "reference")
    }
    return FoolingCohort(
        judge_gap(aucs["held_out"], aucs["reference"]),
        tuple(list_telling(aucs["reference"])),
        {name: {part: _bound(rows) for part, rows in blocks[name].items()} for name in names},
    )


def _flatten(name: Name) -> tuple[str, int, int]:
    return (name[0], *name[1])


def _index(rows: pd.DataFrame, columns: list[str]) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[columns])


def _list_by_chain(rows: pd.DataFrame) -> Floats:
    """List areas by chain, each of as many pairs: float64 [S, pairs]."""
    chains = [block[AUC].to_numpy() for _, block in rows.groupby(tables.GENERATOR_CHAIN)]
    return np.array(chains, np.float64)


def _bound(rows: pd.DataFrame) -> Row:
    """Bound every measure as of `bound_shares`, and summarise areas over pairs."""
    of_classifiers = rows.drop_duplicates(CLASSIFIER)  # what accuracy on reals is a number of
    return {
        "num_pairs": len(rows),
        **bound_shares(rows, PERTURBED_MEASURES),
        **bound_shares(of_classifiers, [REAL_ACCURACY]),
        **summarise(rows[AUC], AUC),
    }


@figures.paper_style()
def draw_areas(cohorts: Mapping[str, FoolingCohort]) -> Figure:
    """Draw the area under the ROC curve under every perturbation, a panel for each cohort."""
    num_columns = min(_NUM_COLUMNS, len(cohorts))
    names = list(next(iter(cohorts.values())).rows)
    height_in = _PANEL_FRAME_IN + _ROW_HEIGHT_IN * len(names)
    figure, panels = figures.make_panels(
        len(cohorts), num_columns, height_in, _LEGEND_IN, sharey=True
    )
    for axes, (gans, cohort) in zip(panels, cohorts.items(), strict=True):
        _draw_panel(axes, cohort, names)
        axes.set_title(f"{gans}:\n{cohort.gap}", fontsize=8)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)  # the first one on top
    figure.supxlabel("area under the ROC curve, against reals perturbed alike", fontsize=9)
    figures.draw_legend(figure, num_columns=3)
    return figure


def _draw_panel(axes: Axes, cohort: FoolingCohort, names: list[str]) -> None:
    """Draw the three parts; a reference that is not detected is hollow."""
    axes.axvspan(CHANCE - GONE_MARGIN, CHANCE + GONE_MARGIN, color=figures.GREY, alpha=0.12)
    for offset, (part, style) in zip(figures.spread(3, 0.22), _PARTS.items(), strict=True):
        (colour, marker, label), places = style, np.arange(len(names)) + offset
        means, lows, highs = (
            [cohort.rows[name][part][number] for name in names]
            for number in (AUC, f"{AUC}_min", f"{AUC}_max")
        )
        if part == "held_out":
            axes.hlines(places, lows, highs, color=colour, linewidth=0.8)
        least = REFERENCE_AUC if part == "reference" else 0.0
        faces = ["white" if mean < least else colour for mean in means]
        axes.scatter(means, places, s=12, marker=marker, c=faces, edgecolors=colour, label=label)
    axes.set_xlim(*figures.RATE_LIMITS)
