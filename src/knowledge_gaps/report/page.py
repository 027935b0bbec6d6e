"""The report's page: one HTML file that holds its figures and needs neither network nor script.

What it says is in `templates/page.html.j2`; the numbers come from `knowledge_gaps.report.readings`
and the figures from `knowledge_gaps.report.gallery`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from knowledge_gaps.report import paper
from knowledge_gaps.report.deviations import DEVIATIONS, LIMITS
from knowledge_gaps.report.formats import DIGITS, format_number, format_phi, format_summary
from knowledge_gaps.report.gallery import PageFigure, describe_cohort
from knowledge_gaps.report.glance import make_glance
from knowledge_gaps.report.readings import Readings
from knowledge_gaps.report.tables import METRICS
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_members

TEMPLATE = "page.html.j2"
METRIC_TITLES = {
    "fid": "FID ↓",
    "kid": "KID ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
    "class_entropy": "class entropy",
}


@dataclass(frozen=True)
class CohortSummary:
    """What the page says about a cohort before its results.

    Attributes:
        name: as in the study.
        recipe: how its instances are trained.
        instances: how many.
        against: the frozen instances that it is trained against, in words.
    """

    name: str
    recipe: str
    instances: int
    against: str


def render_page(
    study: Study,
    dataset: Mapping[str, Any],
    readings: Readings,
    figures: Mapping[str, PageFigure],
) -> str:
    """Render the page.

    Args:
        study: what was run.
        dataset: data/prepared/dataset.json.
        readings: of the study.
        figures: by name; a section whose figure is absent is left out.

    Returns:
        HTML in UTF-8 whose text depends on the arguments alone.
    """
    environment = Environment(
        loader=PackageLoader("knowledge_gaps.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        summary=format_summary, number=format_number, phi=format_phi
    )
    page = environment.get_template(TEMPLATE).render(
        study=study,
        dataset=dataset,
        readings=readings,
        figures=figures,
        glance=make_glance(readings),
        gan_cohorts=_list_gan_cohorts(study),
        classifier_cohorts=_list_classifier_cohorts(study),
        metrics=METRICS,
        metric_titles=METRIC_TITLES,
        digits=DIGITS,
        paper=paper,
        deviations=DEVIATIONS,
        limits=LIMITS,
    )
    return page.lstrip() + "\n"


def _list_gan_cohorts(study: Study) -> list[CohortSummary]:
    return [
        CohortSummary(
            name,
            gans.recipe,
            gans.instances,
            f"{describe_cohort(gans)}{_list_pool(study, gans.fools)}",
        )
        for name, gans in study.gans.items()
    ]


def _list_classifier_cohorts(study: Study) -> list[CohortSummary]:
    return [
        CohortSummary(
            name,
            classifiers.recipe,
            classifiers.instances,
            f"detects {classifiers.detects}{_list_pool(study, classifiers.detects)}",
        )
        for name, classifiers in study.classifiers.items()
    ]


def _list_pool(study: Study, pool: str) -> str:
    """Name the instances of a pool: "", or " = iteration_0/0 and iteration_1/0"."""
    members = [f"{cohort.partition('/')[2]}/{number}" for cohort, number in list_members(study, pool)]
    return f" = {', '.join(members)}" if members else ""
