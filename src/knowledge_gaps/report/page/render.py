"""The report's page: one HTML file that holds its figures and needs neither network nor script.

What it says is in the templates; a section has a template of its name. Numbers come from readings,
analyses and findings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from knowledge_gaps.core.tables import CLASSIFIER_COHORT, GENERATOR_COHORT, PHI
from knowledge_gaps.findings.form import (
    describe_effect,
    describe_paper,
    describe_source,
    describe_threshold,
)
from knowledge_gaps.findings.judge import Answer, Judged, Verdict
from knowledge_gaps.readings import formats, paper
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.tables import Row
from knowledge_gaps.readings.words import (
    DRAWN,
    WIDTH_KEY,
    describe_architecture,
    describe_classifiers,
    describe_dataset,
    get_extractor,
    has_styles,
    list_architectures,
)
from knowledge_gaps.report.content import Content
from knowledge_gaps.report.page.recipes import make_recipe_table
from knowledge_gaps.statistics.clusters import SIGNIFICANCE
from knowledge_gaps.statistics.collapse import describe_rule
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA
from knowledge_gaps.statistics.measures import (
    AUC,
    AVERAGE_PRECISION,
    BALANCED_ACCURACY,
    CALIBRATION_ERROR,
    CLASS_ENTROPY,
    COVERAGE,
    DENSITY,
    DETECTION_AT_1PCT,
    DETECTION_AT_5PCT,
    DETECTION_RATE,
    EQUAL_ERROR_RATE,
    FID,
    KID,
    KID_STD,
    MEMORISED,
    METRICS,
    MISSING_CLASSES,
    PRECISION,
    REAL_ACCURACY,
    RECALL,
)
from knowledge_gaps.statistics.signals import Signal
from knowledge_gaps.study import Study, TrainingSettings

MEASURE_TITLES = {
    DETECTION_RATE: "detection",
    REAL_ACCURACY: "reals",
    BALANCED_ACCURACY: "balanced",
    AUC: "AUC",
    AVERAGE_PRECISION: "AP",
    DETECTION_AT_1PCT: "at 1 %",
    DETECTION_AT_5PCT: "at 5 %",
    EQUAL_ERROR_RATE: "EER",
    CALIBRATION_ERROR: "ECE",
}
METRIC_TITLES = {  # that of the Frechet distance is the extractor's
    KID: "KID ↓",
    PRECISION: "precision ↑",
    RECALL: "recall ↑",
    DENSITY: "density ↑",
    COVERAGE: "coverage ↑",
    CLASS_ENTROPY: "class entropy",
    MISSING_CLASSES: "missing classes ↓",
    MEMORISED: "memorised ↓",
}
_SWEEP_METRICS = (FID, PRECISION, RECALL, CLASS_ENTROPY)  # of tables along an axis
_OF_CLASSES = (CLASS_ENTROPY, MISSING_CLASSES)  # which an extractor may not tell apart
_OTHER_CELLS: dict[str, tuple[str, ...]] = {  # in the table of detection statistics: sorted by
    "memoryless": (),
    "memory": (),
    "phi_sweep": (PHI, GENERATOR_COHORT),
    "multi_instance": ("t", GENERATOR_COHORT),
    "generalisation": (),
    "truncation": (),
    "architectures": (),
}


class Section(NamedTuple):
    """A section of the page; sections of readings lie between those of the report's own."""

    position: int
    name: str
    title: str


_OWN_SECTIONS = (
    Section(1, "findings", "Findings"),
    Section(2, "run", "What was run"),
    Section(190, "artifacts", "Artifacts"),
    Section(200, "statistics", "Detection statistics"),
    Section(220, "audit", "Shortcut audit"),
    Section(300, "deviations", "Deviations"),
    Section(310, "limits", "Limits"),
)


def render_page(content: Content) -> str:
    """Render the page: HTML in UTF-8 whose text depends on the content alone."""
    environment = make_environment()
    sections = _list_sections(environment, content.results.study)
    page = environment.get_template("page.html.j2").render(
        **make_context(
            content.results.study, formats.format_distance(content.results.metric_names[FID])
        ),
        **_list_numbers(content.results),
        sections=sections,
        dataset=content.dataset,
        readings=content.readings,
        evidence=content.evidence,
        figures=content.figures,
        findings=content.findings,
        verdicts=sorted(content.judged, key=_is_left_out),
        verdict_counts=_count_verdicts(content.judged),
    )
    return page.lstrip() + "\n"


def make_environment() -> Environment:
    """Make the environment that the templates are written for: their filters and functions."""
    environment = Environment(
        loader=PackageLoader("knowledge_gaps.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        summary=formats.format_summary,
        interval=formats.format_cell,
        number=formats.format_number,
        p=formats.format_p,
        phi=formats.format_phi,
        phis=formats.format_phis,
        counts=formats.format_counts,
        counted=formats.format_things,
        title_of=formats.format_title,
        architecture=describe_architecture,
        effect=_format_effect,
    )
    environment.globals.update(
        format_pool=formats.format_pool,
        format_detected=formats.format_detected,
        describe_effect=describe_effect,
        describe_paper=describe_paper,
        describe_source=describe_source,
        describe_threshold=describe_threshold,
        fooling_words=list(Signal),
        measure_titles=MEASURE_TITLES,
        digits=formats.DIGITS,
        audit_alpha=AUDIT_ALPHA,
        significance=SIGNIFICANCE,
        paper=paper,
    )
    return environment


def make_context(study: Study, distance: str = "FID") -> dict[str, Any]:
    """Make what templates know of a study before anything is measured.

    Args:
        study: what was run.
        distance: how the Frechet distance is called.
    """
    extractor = get_extractor(study)
    architectures = {name: describe_classifiers(study, name) for name in study.classifiers}
    recipes: dict[str, Mapping[str, TrainingSettings]] = {
        "GANs": study.gan_recipes,
        "classifiers": study.classifier_recipes,
    }
    widths = [recipe.model.get(WIDTH_KEY, 1) for recipe in study.classifier_recipes.values()]
    return {
        "study": study,
        "extractor": extractor,
        "largest_entropy": math.log(extractor.classes.num) if extractor.classes else math.nan,
        "collapse_rule": describe_rule(extractor.classes is not None),
        "recipe_tables": {
            kind: (list(each), make_recipe_table(each)) for kind, each in recipes.items()
        },
        "setting": {
            "dataset": describe_dataset(study),
            "gans": list_architectures(study.gan_recipes),
            "classifiers": list_architectures(study.classifier_recipes),
            "architectures": architectures,
            "distance": distance,
            "is_drawn": study.data.source == DRAWN,
            "is_varied": len(set(architectures.values())) > 1,
            "is_reduced": any(width != 1 for width in widths),
            "is_stylegan2": has_styles(study),
        },
    }


def _list_numbers(results: Results) -> dict[str, Any]:
    classes = get_extractor(results.study).classes
    hidden = {KID_STD} if classes is not None else {KID_STD, *_OF_CLASSES}
    metrics = [name for name in METRICS if name not in hidden]
    distance = formats.format_distance(results.metric_names[FID])
    return {
        "find": lambda pairs, *cohorts: results.find(PairSet(pairs), *cohorts),
        "accuracy": results.accuracy_rows,
        "metric_names": results.metric_names,
        "metrics": metrics,
        "sweep_metrics": [name for name in _SWEEP_METRICS if name in metrics],
        "metric_titles": METRIC_TITLES | {FID: f"{distance.split()[0]} ↓"},
        "statistics": _list_cells(results),
    }


def _list_sections(environment: Environment, study: Study) -> list[Section]:
    """List the sections that have a template and, of readings, that the study asks for."""
    asked = [each for each in list_readings().values() if each.is_asked(study)]
    sections = [Section(each.position, each.name, each.title) for each in asked]
    found = set(environment.list_templates())
    return sorted(
        section
        for section in (*_OWN_SECTIONS, *sections)
        if f"sections/{section.name}.html.j2" in found
    )


def _list_cells(results: Results) -> dict[str, list[Row]]:
    """List the held-out cells of the iterations, and those that other sections read."""
    main = _index(results.select("iterations", PairSet.HELD_OUT))
    others = _index(
        cell
        for name, axes in _OTHER_CELLS.items()
        for cell in results.select(name, PairSet.HELD_OUT, *axes)
    )
    unseen = [cell for key, cell in others.items() if key not in main]
    return {"main": list(main.values()), "others": unseen}


def _index(cells: Iterable[Row]) -> dict[tuple[str, str], Row]:
    return {
        (cell[CLASSIFIER_COHORT], cell[GENERATOR_COHORT]): cell
        for cell in cells
        if cell["num_pairs"] > 0
    }


def _is_left_out(judged: Judged) -> bool:
    return judged.study.verdict is Verdict.NOT_ASKED


def _count_verdicts(judged: Iterable[Judged]) -> dict[str, int]:
    """Count the claims of each verdict, in the order of `Verdict`."""
    found = [each.study.verdict for each in judged]
    return {verdict.value: found.count(verdict) for verdict in Verdict}


def _format_effect(answer: Answer) -> str:
    return formats.format_interval(answer.effect, answer.low, answer.high, digits=3)
