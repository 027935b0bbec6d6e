"""The report's page: one HTML file that holds its figures and needs neither network nor script.

What it says is in `templates/page.html.j2`; the numbers come from
`knowledge_gaps.readings.collected` and the figures from
`knowledge_gaps.report.gallery`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from knowledge_gaps.readings import paper
from knowledge_gaps.readings.figures.page_figure import PageFigure
from knowledge_gaps.readings.formats import (
    DIGITS,
    format_detected,
    format_distance,
    format_interval,
    format_number,
    format_p,
    format_phi,
    format_pool,
    format_summary,
    format_things,
)
from knowledge_gaps.report.content import Content
from knowledge_gaps.report.page.deviations import make_deviations
from knowledge_gaps.report.page.limits import make_limits
from knowledge_gaps.report.page.recipes import make_recipe_table
from knowledge_gaps.report.page.statistics import make_statistics_table
from knowledge_gaps.report.page.summary import summarise_study
from knowledge_gaps.report.page.verdicts import count_verdicts, make_verdict_rows
from knowledge_gaps.report.setting import describe_foreign_pilot, get_extractor, make_setting
from knowledge_gaps.statistics.clusters import SIGNIFICANCE
from knowledge_gaps.statistics.collapse import describe_rule
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA
from knowledge_gaps.statistics.measures import (
    CLASS_ENTROPY,
    COVERAGE,
    DENSITY,
    FID,
    KID,
    KID_STD,
    MEMORISED,
    METRICS,
    MISSING_CLASSES,
    PRECISION,
    RECALL,
)
from knowledge_gaps.study import Study

TEMPLATE = "page.html.j2"
SWEEP_METRICS = (FID, PRECISION, RECALL, CLASS_ENTROPY)  # of tables along an axis
OF_CLASSES = (CLASS_ENTROPY, MISSING_CLASSES)  # which an extractor may not tell apart
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


def render_page(study: Study, content: Content, figures: Mapping[str, PageFigure]) -> str:
    """Render the page.

    Args:
        study: what was run.
        content: of its report.
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
        summary=format_summary,
        interval=format_interval,
        number=format_number,
        p=format_p,
        phi=format_phi,
        counted=format_things,
    )
    extractor = get_extractor(study)
    setting = make_setting(study, format_distance(content.readings.metric_names[FID]))
    classes = extractor.classes
    hidden = {KID_STD} if classes is not None else {KID_STD, *OF_CLASSES}
    metrics = [name for name in METRICS if name not in hidden]
    page = environment.get_template(TEMPLATE).render(
        study=study,
        dataset=content.dataset,
        readings=content.readings,
        evidence=content.evidence,
        findings=content.findings,
        figures=figures,
        summary=summarise_study(study, content.readings.cells),
        verdicts=make_verdict_rows(content.findings, content.judged),
        verdict_counts=count_verdicts(content.judged),
        statistics=make_statistics_table(study, content.readings),
        shown_cohorts=_list_shown_cohorts(study),
        recipe_tables={
            "GANs": make_recipe_table(study.gan_recipes),
            "classifiers": make_recipe_table(study.classifier_recipes),
        },
        format_pool=format_pool,
        format_detected=format_detected,
        setting=setting,
        extractor=extractor,
        largest_entropy=math.nan if classes is None else math.log(classes.num),
        foreign_pilot=describe_foreign_pilot(study, content.findings.pilot.setting),
        metrics=metrics,
        sweep_metrics=[name for name in SWEEP_METRICS if name in metrics],
        metric_titles=METRIC_TITLES | {FID: f"{setting.distance.split()[0]} ↓"},
        digits=DIGITS,
        audit_alpha=AUDIT_ALPHA,
        collapse_rule=describe_rule(classes is not None),
        significance=SIGNIFICANCE,
        paper=paper,
        deviations=make_deviations(study),
        limits=make_limits(study, setting.distance),
    )
    return page.lstrip() + "\n"


def _list_shown_cohorts(study: Study) -> list[str]:
    """List the GAN cohorts of the tables, whose samples the page shows without being asked."""
    report = study.report
    tables = report.iterations, report.memoryless, report.memory, report.architectures
    shown = dict.fromkeys(entry.gans for table in tables for entry in table)
    return list(shown) or list(study.gans)
