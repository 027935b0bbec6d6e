"""Controls: is training GANs to fool classifiers better than changing images until they are fooled?

A control is compared with the GANs at the least of its distortions at which images are as far from
reals as the GANs', by the Frechet distance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knowledge_gaps.core import layout, tables
from knowledge_gaps.core.tables import Cast
from knowledge_gaps.evaluation.controlling import choose_controls, name_distance
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.cells import MEASURES, PAIRS, tabulate
from knowledge_gaps.readings.cohorts import list_controlled, plan_controls
from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.reading import Metrics, Reading, Results
from knowledge_gaps.readings.tables import CLASSIFIER, GENERATOR, INSTANCES, PairSet, Row, find_rows
from knowledge_gaps.readings.transfers import TRANSFER, compute_transfers
from knowledge_gaps.statistics.chains import Floats, Interval, bound_mean, compute_resolution
from knowledge_gaps.statistics.measures import AUC, C2ST_LOG10_P, CONTROLLED_MEASURES
from knowledge_gaps.statistics.rules import PRISTINE
from knowledge_gaps.study import Study

_DISTANCE = "distance"
_COLUMNS = {
    tables.CONTROL: Cast.NAME,
    tables.DISTORTION: Cast.NUMBER,
    **INSTANCES,
    tables.GANS: Cast.NAME,
    tables.IN_LOSS: Cast.FLAG,
    tables.NUM_IMAGES: Cast.COUNT,
    **dict.fromkeys(CONTROLLED_MEASURES[:3], Cast.SHARE),
    **dict.fromkeys(CONTROLLED_MEASURES[3:], Cast.NUMBER),
    tables.MEAN_CHANGE: Cast.NUMBER,
}
_WHAT = [tables.GENERATOR_COHORT, tables.CLASSIFIER_COHORT]  # images, and who scored them
_ENDS = ("", "_low", "_high")
_HEIGHT_IN, _FRAME_IN = 2.9, 0.3


class ControlRow(NamedTuple):
    """Images of one kind, scored by classifiers of one cohort."""

    images: str  # a GAN cohort; or a control, its distortion, and the cohort that it changed
    classifiers: str
    control: str
    distortion: int  # levels of 255; 0 without one
    in_loss: Row  # cell as of `cells.make_cells`
    held_out: Row  # likewise, with the transfer
    aucs: Floats  # [S], of held-out classifiers by chain
    distance: Interval  # Frechet distance to reals
    mean_change: float  # of a value, levels of 255


class Match(NamedTuple):
    """A control beside the GANs; `row` is None where no distortion brings it as far from reals."""

    control: str
    gans: ControlRow
    row: ControlRow | None
    difference: Interval  # of held-out AUC: the GANs' less the control's, within chains


class ControlsContent(NamedTuple):
    """What the page shows of controls."""

    metric: str  # the distance's name
    rows: list[ControlRow]
    matches: list[Match]


class Controls(Reading):
    """Attacks on images, and plain changes, beside the GANs that fool the same classifiers."""

    name, title, position = "controls", "Controls", 105

    def is_asked(self, study: Study) -> bool:
        return study.evaluation.controls != [] and plan_controls(study) is not None

    def read(self, results: Results) -> ControlsContent | None:
        """Return all rows; None where the study asks for no control, or has no images for one.

        Raises UserError when the table is missing or malformed, or lacks a row.
        """
        study, plan = results.study, plan_controls(results.study)
        if plan is None or not self.is_asked(study):
            return None
        reports = layout.get_reports(results.root, study.study.name)
        table = read_controls(reports / layout.CONTROLS_FILE, study)
        rows = make_rows(study, table)
        least = compute_resolution(int(table[tables.NUM_IMAGES].min()))
        names = dict.fromkeys(row.control for row in rows if row.distortion)
        fooling = [row for row in rows if row.images == plan.gans]
        matches = [match_rows(name, gans, rows, least) for gans in fooling for name in names]
        return ControlsContent(name_distance(study.evaluation), rows, matches)

    def draw(self, results: Results, content: Any) -> Iterator[PageFigure]:
        yield PageFigure(self.name, draw_controls(content.rows))

    def make_metrics(self, results: Results, content: Any) -> Metrics:
        """List areas, transfer and distance of all images, and the distortions that match."""
        rows = {
            f"{row.classifiers} on {row.images}": {
                "in_loss_auc": row.in_loss[AUC],
                "held_out_auc": row.held_out[AUC],
                TRANSFER: row.held_out[TRANSFER],
                content.metric: row.distance.point,
            }
            for row in content.rows
        }
        matched = {each.control: each.row.distortion for each in content.matches if each.row}
        return {self.name: rows, "matched_distortion": matched}


def read_controls(path: Path, study: Study) -> pd.DataFrame:
    """Read controls.csv as a table of pairs like detections.csv; raises UserError.

    Each row of the study is needed. Images that are changed go by control, distortion and cohort in
    the column of GAN cohorts; measures that controls.csv does not have are NaN.
    """
    metric = name_distance(study.evaluation)
    frame = tables.read_columns(path, {**_COLUMNS, metric: Cast.NUMBER})
    frame = frame.rename(columns={metric: _DISTANCE}).fillna({tables.DISTORTION: 0})
    keys = [tables.CONTROL, tables.DISTORTION, *GENERATOR, *CLASSIFIER]
    tables.check_unique(path, frame, keys)
    chosen = choose_controls(study.evaluation)
    distortions = {name: control.distortions for name, control in chosen.items()}
    needed = [
        (control, level, cohort, *generator, classifiers, *classifier)
        for control, level, (cohort, generator), (classifiers, classifier) in list_controlled(
            study, distortions
        )
    ]
    found = frame[find_rows(path, frame, keys, needed)]
    levels = found[tables.DISTORTION].map(lambda level: f" {level:.0f}" if level else "")
    cohorts = found[tables.GENERATOR_COHORT]
    changed = found[tables.CONTROL] + levels + " of " + cohorts
    named = cohorts.where(found[tables.CONTROL] == PRISTINE, changed)
    missing = [name for name in (*MEASURES, C2ST_LOG10_P) if name not in found]
    found = found.assign(**{tables.GENERATOR_COHORT: named}).reindex(columns=[*found, *missing])
    return found.assign(in_training=False)


def make_rows(study: Study, table: pd.DataFrame) -> list[ControlRow]:
    """Summarise a table as of `read_controls`; left out are cohorts that are all in the loss."""
    pairs = list(table[_WHAT].drop_duplicates().itertuples(index=False, name=None))
    cells = tabulate(table, compute_transfers(study, table, pairs))
    records = cast("list[Row]", cells.to_dict("records"))
    found = {(*(cell[name] for name in _WHAT), cell[PAIRS]): cell for cell in records}
    rows = []
    for images, classifiers in pairs:
        if (held_out := found.get((images, classifiers, PairSet.HELD_OUT))) is None:
            continue
        block = table[(table[_WHAT] == [images, classifiers]).all(axis=1)]
        by_chain = block.groupby(tables.GENERATOR_CHAIN)
        areas = block[~block[tables.IN_LOSS]].groupby(tables.GENERATOR_CHAIN)[AUC].mean()
        row = ControlRow(
            images=images,
            classifiers=classifiers,
            control=block[tables.CONTROL].iloc[0],
            distortion=int(block[tables.DISTORTION].iloc[0]),
            in_loss=found[images, classifiers, PairSet.IN_LOSS],
            held_out=held_out,
            aucs=areas.to_numpy(),
            distance=bound_mean(by_chain[_DISTANCE].mean().to_numpy()),
            mean_change=float(block[tables.MEAN_CHANGE].mean()),
        )
        rows.append(row)
    return rows


def match_rows(control: str, gans: ControlRow, rows: Sequence[ControlRow], least: float) -> Match:
    """Match the rows of a control, by rising distortion; `least` is as of `bound_mean`."""
    own = [row for row in rows if (row.control, row.classifiers) == (control, gans.classifiers)]
    row = next((row for row in own if row.distance.point >= gans.distance.point), None)
    difference = Interval() if row is None else bound_mean(gans.aucs - row.aucs, least=least)
    return Match(control, gans, row, difference.clip(-1, 1))


@figures.paper_style()
def draw_controls(rows: Sequence[ControlRow]) -> Figure:
    """Draw the AUC of held-out classifiers against that of those in the loss, and the distance."""
    figure, panels = figures.make_panels(2, 2, _HEIGHT_IN, _FRAME_IN, sharey=True)
    lines: dict[tuple[str, str], list[ControlRow]] = {}  # of all distortions of a control
    for row in rows:
        name = row.images if row.control == PRISTINE else row.control
        lines.setdefault((name, row.classifiers), []).append(row)
    colours = figures.choose_colours(len(lines))
    for ((name, _), line), colour in zip(lines.items(), colours, strict=True):
        _draw_line(panels[0], line, [row.in_loss[AUC] for row in line], name, colour)
        _draw_line(panels[1], line, [row.distance.point for row in line], name, colour)
    panels[0].set_xlim(*figures.RATE_LIMITS)
    panels[0].set_ylim(*figures.RATE_LIMITS)
    panels[0].set_xlabel("AUC of classifiers in the loss")
    panels[0].set_ylabel("AUC of held-out classifiers")
    panels[1].set_xlabel("Fréchet distance to reals")
    figures.draw_legend(figure, num_columns=4)
    return figure


def _draw_line(
    axes: Axes, rows: Sequence[ControlRow], places: Sequence[float], label: str, colour: str
) -> None:
    areas, lows, highs = ([row.held_out[f"{AUC}{end}"] for row in rows] for end in _ENDS)
    axes.plot(places, areas, color=colour, label=label, linewidth=1, marker="o", markersize=4)
    axes.vlines(places, lows, highs, color=colour, alpha=0.35, linewidth=3)
    for row, x, y in zip(rows, places, areas, strict=True):
        text = str(row.distortion or "")
        axes.annotate(text, (x, y), (4, 3), textcoords="offset points", fontsize=7)
