"""plan: say what the present study costs on this machine, before it is run; writes no result."""

from __future__ import annotations

import sys
from pathlib import Path

from knowledge_gaps.core.files import dump_json
from knowledge_gaps.planning.estimate import Knowledge, make_rows
from knowledge_gaps.planning.inventory import CohortWork, Reals, find_reals, list_cohorts
from knowledge_gaps.planning.measure import Counts, Prober, describe_machine
from knowledge_gaps.planning.request import Measurement, ProbeRequest, make_request
from knowledge_gaps.planning.standing import ask_dvc, find_standings
from knowledge_gaps.planning.table import render, to_json
from knowledge_gaps.study import Study


def run(root: Path, study: Study, with_probes: bool, as_json: bool, budget_sec: float) -> None:
    """Print the plan.

    Args:
        root: the repository's root.
        study: the present one.
        with_probes: measure time and memory where they are not known yet.
        as_json: print JSON instead of a table.
        budget_sec: a probe takes about so long at most.

    Raises:
        UserError: when the images' size is not known, or a recipe does not fit them.
    """
    cohorts, reals = list_cohorts(study), find_reals(root, study)
    prober = Prober(root, budget_sec, _say)
    counts = _count(prober, cohorts, reals)
    changes = ask_dvc(root)
    if changes is None:
        _say("DVC does not answer: what is there is taken from models/")
    known = Knowledge(
        root=root,
        study=study,
        cohorts=cohorts,
        reals=reals,
        changes=changes,
        standings=find_standings(root, study, cohorts, changes),
        counts=counts,
        measurements=_measure(prober, cohorts, reals) if with_probes else {},
    )
    rows, machine = make_rows(known), describe_machine()
    name = study.study.name
    print(dump_json(to_json(name, machine, rows)) if as_json else render(name, machine, rows))


def _count(prober: Prober, cohorts: list[CohortWork], reals: Reals) -> dict[str, Counts]:
    entries = [(work.kind.value, work.recipe.architecture, work.recipe.model) for work in cohorts]
    distinct = [entry for index, entry in enumerate(entries) if entry not in entries[:index]]
    counted = prober.count(distinct, reals.shape)
    return {
        work.path: counted[distinct.index(entry)]
        for work, entry in zip(cohorts, entries, strict=True)
    }


def _measure(
    prober: Prober, cohorts: list[CohortWork], reals: Reals
) -> dict[str, Measurement | str]:
    found: list[tuple[ProbeRequest, Measurement | str]] = []
    measurements = {}
    for work in cohorts:
        request = make_request(work, reals.shape)
        known = [answer for asked, answer in found if asked == request]
        if not known:
            title = f"probe {len(found) + 1}: {work.path} ({work.recipe.architecture})"
            known = [prober.find(request, title)]
            found.append((request, known[0]))
        measurements[work.path] = known[0]
    return measurements


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
