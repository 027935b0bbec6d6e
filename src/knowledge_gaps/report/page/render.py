"""The report's page: one HTML file that holds its figures and needs neither network nor script.

What it says is in `templates/page.html.j2`; the numbers come from
`knowledge_gaps.report.readings.collected` and the figures from
`knowledge_gaps.report.figures.gallery`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from knowledge_gaps.report.figures.gallery import PageFigure
from knowledge_gaps.report.formats import (
    DIGITS,
    format_number,
    format_phi,
    format_pool,
    format_summary,
    format_title,
)
from knowledge_gaps.report.page.deviations import make_deviations, make_limits
from knowledge_gaps.report.page.glance import make_glance
from knowledge_gaps.report.page.recipes import make_recipe_table
from knowledge_gaps.report.readings import paper
from knowledge_gaps.report.readings.collected import Readings
from knowledge_gaps.report.readings.tables import (
    CLASS_ENTROPY,
    FID,
    KID,
    METRICS,
    PRECISION,
    RECALL,
)
from knowledge_gaps.study import Study

TEMPLATE = "page.html.j2"
METRIC_TITLES = {
    FID: "FID ↓",
    KID: "KID ↓",
    PRECISION: "precision ↑",
    RECALL: "recall ↑",
    CLASS_ENTROPY: "class entropy",
}


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
        loader=PackageLoader("knowledge_gaps.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        summary=format_summary, number=format_number, phi=format_phi, known_as=format_title
    )
    page = environment.get_template(TEMPLATE).render(
        study=study,
        dataset=dataset,
        readings=readings,
        figures=figures,
        glance=make_glance(readings),
        shown_cohorts=_list_shown_cohorts(study),
        recipe_tables={
            "GANs": make_recipe_table(study.gan_recipes),
            "classifiers": make_recipe_table(study.classifier_recipes),
        },
        format_pool=format_pool,
        metrics=METRICS,
        metric_titles=METRIC_TITLES,
        digits=DIGITS,
        paper=paper,
        deviations=make_deviations(study),
        limits=make_limits(study),
    )
    return page.lstrip() + "\n"


def _list_shown_cohorts(study: Study) -> list[str]:
    """List the GAN cohorts of the iterations, whose samples the page shows without being asked."""
    entries = [*study.report.iterations, *study.report.memoryless]
    return list(dict.fromkeys(entry.gans for entry in entries)) or list(study.gans)
