"""The report's page: one HTML file that holds its figures and needs neither network nor script.

What it says is in the templates; a section has a template of its name. Numbers come from readings,
analyses and findings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from scipy.special import stdtrit

from knowledge_gaps.core.tables import CLASSIFIER_COHORT, GENERATOR_COHORT
from knowledge_gaps.findings.judge import Verdict
from knowledge_gaps.readings import cohorts, formats, paper
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.tables import PairSet, Row
from knowledge_gaps.statistics.chains import CONFIDENCE
from knowledge_gaps.statistics.clusters import SIGNIFICANCE
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA
from knowledge_gaps.statistics.measures import FID
from knowledge_gaps.statistics.rules import Signal, describe_gap_rule, describe_rule
from knowledge_gaps.statistics.transfer import MIN_SHIFT
from knowledge_gaps.study import Study, TrainingSettings

_OTHERS = (  # readings in the table of detection statistics, after the iterations
    "memoryless",
    "memory",
    "phi_sweep",
    "multi_instance",
    "generalisation",
    "truncation",
    "architectures",
)
_OWN_SECTIONS = [  # position, name, title; sections of readings lie between these
    (1, "findings", "Findings"),
    (2, "run", "What was run"),
    (190, "artifacts", "Artifacts"),
    (200, "statistics", "Detection statistics"),
    (220, "audit", "Shortcut audit"),
    (300, "deviations", "Deviations"),
    (310, "limits", "Limits"),
]


def render_page(results: Results, verdicts: Mapping[str, Any], **content: Any) -> str:
    """Render the page: HTML in UTF-8 whose text depends on the arguments alone.

    Args:
        results: of the study.
        verdicts: content of verdicts.json.
        content: what else templates know by these names; see `build.read_content`.
    """
    environment = make_environment()
    asked = [each for each in list_readings().values() if each.is_asked(results.study)]
    sections = [*_OWN_SECTIONS, *((each.position, each.name, each.title) for each in asked)]
    templates = environment.list_templates()
    claims, anchors = verdicts["claims"], verdicts["anchors"]
    found = [claim["study"]["verdict"] for claim in claims]
    page = environment.get_template("page.html.j2").render(
        **make_context(results.study, formats.format_distance(results.metric_names[FID])),
        **content,
        sections=sorted(each for each in sections if f"sections/{each[1]}.html.j2" in templates),
        find=results.find,
        accuracy=results.accuracy_rows,
        metric_names=results.metric_names,
        statistics=_list_statistics(results),
        anchors=anchors,
        claims=sorted(claims, key=lambda claim: claim["study"]["verdict"] == Verdict.NOT_ASKED),
        verdict_counts={verdict.value: found.count(verdict) for verdict in Verdict},
    )
    return page.lstrip() + "\n"


def make_environment() -> Environment:
    """Make the environment that the templates are written for: their filters and functions."""
    environment = Environment(
        loader=PackageLoader("knowledge_gaps.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        summary=formats.format_summary,
        interval=formats.format_interval,
        bounds=formats.format_bounds,
        estimate=formats.format_estimate,
        number=formats.format_number,
        p=formats.format_p,
        phi=formats.format_phi,
        counts=formats.format_counts,
        counted=formats.format_things,
        title_of=formats.format_title,
        architecture=cohorts.describe_architecture,
        effect=_format_effect,
    )
    environment.globals.update(
        formats=formats,
        list_settings=list_settings,
        describe_rule=describe_rule,
        describe_gap_rule=describe_gap_rule,
        log=math.log,
        t_quantile=lambda degrees: float(stdtrit(degrees, (1 + CONFIDENCE) / 2)),
        min_shift=MIN_SHIFT,
        fooling_words=list(Signal),
        audit_alpha=AUDIT_ALPHA,
        significance=SIGNIFICANCE,
        paper=paper,
    )
    return environment


def make_context(study: Study, distance: str = "FID") -> dict[str, Any]:
    """Make what templates know of a study before anything is measured, but what they call a
    Frechet distance.
    """
    architectures = {name: cohorts.describe_classifiers(study, name) for name in study.classifiers}
    divisors = {
        recipe.model.get("width_divisor", 1) for recipe in study.classifier_recipes.values()
    }
    is_drawn = study.data.source == "dicebear"
    dataset = formats.format_title(study.data.name)
    if is_drawn:  # whatever the study calls them
        dataset = f"drawn faces (DiceBear, style {study.data.style})"
    return {
        "study": study,
        "with_interval": _describe_interval(study.study.chains),
        "classes": cohorts.find_classes(study),
        "setting": {
            "dataset": dataset,
            "gans": _list_architectures(study.gan_recipes),
            "classifiers": _list_architectures(study.classifier_recipes),
            "architectures": architectures,
            "distance": distance,
            "is_drawn": is_drawn,
            "is_varied": len(set(architectures.values())) > 1,
            "is_reduced": bool(divisors - {1}),
            "is_stylegan2": cohorts.has_styles(study),
        },
    }


def _describe_interval(num_chains: int) -> str:
    """Say behind the word "mean" which interval it has."""
    if num_chains == 1:
        return "without an interval, which one chain does not have"
    protocol = f"Student's t over {num_chains} chains; the subscript is its degrees of freedom"
    return f"with its 95 % interval ({protocol})"


def list_settings(recipes: Mapping[str, TrainingSettings]) -> dict[str, list[str]]:
    """List every setting of some recipes, the defaults among them: by its key, nested keys joined
    by dots, its value in each recipe, or a dash where a recipe does not have it.
    """
    columns = [dict(_walk_settings(recipe.model_dump())) for recipe in recipes.values()]
    keys = dict.fromkeys(key for column in columns for key in column)
    return {key: [column.get(key, formats.NOTHING) for column in columns] for key in keys}


def _walk_settings(section: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _walk_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _format_setting(value)


def _format_setting(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(_format_setting(item) for item in value)
    return "the architecture's defaults" if value == {} else str(value).removesuffix(".0")


def _list_architectures(recipes: Mapping[str, TrainingSettings]) -> str:
    return ", ".join(
        dict.fromkeys(cohorts.describe_architecture(each) for each in recipes.values())
    )


def _list_statistics(results: Results) -> dict[str, list[Row]]:
    """List the held-out cells of the iterations, and those that other sections read."""
    main, others = (
        {
            (cell[CLASSIFIER_COHORT], cell[GENERATOR_COHORT]): cell
            for name in names
            for cell in results.select(name, PairSet.HELD_OUT)
            if cell["num_pairs"] > 0
        }
        for names in (["iterations"], _OTHERS)
    )
    unseen = [cell for key, cell in others.items() if key not in main]
    return {"main": list(main.values()), "others": unseen}


def _format_effect(answer: Mapping[str, Any]) -> str:
    names = {"effect": "effect", "effect_low": "low", "effect_high": "high"}
    names |= {"effect_degrees": "degrees"}
    known = {key: answer[name] for key, name in names.items() if answer[name] is not None}
    return formats.format_interval(dict.fromkeys(names, math.nan) | known, "effect", digits=3)
