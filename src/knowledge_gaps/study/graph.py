"""What stands on what: every name that an entry uses exists, and nothing stands on itself.

The edges are cohort -> pool -> pool that it extends, and pool -> cohort that it takes instances of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.study.recipes import NO_POOL, REALS, ClassifierCohort, GanCohort, Kind
from knowledge_gaps.study.schema import Pool, Study


def check_graph(study: Study) -> None:
    """Check all references of a study.

    Raises:
        UserError: for an unknown name, a pool of the wrong kind, an instance that its cohort does
            not have, or a circle; the message names both ends.
    """
    if REALS in study.gans:
        raise UserError(f"gans.{REALS}: the name stands for the reals in quality.csv")
    for section in ("pools", "gans", "classifiers"):
        _check_cases(section, getattr(study, section))
    if NO_POOL in study.pools:
        raise UserError(f"pools.{NO_POOL}: the name stands for the pool without instances")
    for name, pool in study.pools.items():
        _check_pool(study, name, pool)
    for name, gans in study.gans.items():
        need(gans.recipe, study.gan_recipes, f"gans.{name}.recipe", "gan_recipes")
        _check_stands_on(study, f"gans.{name}.fools", gans.fools, Kind.CLASSIFIERS)
    for name, classifiers in study.classifiers.items():
        need(
            classifiers.recipe,
            study.classifier_recipes,
            f"classifiers.{name}.recipe",
            "classifier_recipes",
        )
        if classifiers.detects == NO_POOL:
            raise UserError(f"classifiers.{name}.detects: {NO_POOL!r} has no generators to detect")
        _check_stands_on(study, f"classifiers.{name}.detects", classifiers.detects, Kind.GANS)
    _check_report(study)
    sort_nodes(study)
    for name in study.pools:
        _check_distinct(study, name)


def get_cohorts(study: Study, kind: Kind) -> dict[str, GanCohort] | dict[str, ClassifierCohort]:
    """Return the study's cohorts of one kind by name."""
    return study.gans if kind is Kind.GANS else study.classifiers


def list_members(study: Study, pool_name: str) -> list[tuple[str, int]]:
    """List the instances of a pool in order, as (kind/COHORT, instance)."""
    if pool_name == NO_POOL:
        return []
    pool = study.pools[pool_name]
    return [
        *list_members(study, pool.extends),
        *((pool.cohort, instance) for instance in pool.instances),
    ]


def sort_nodes(study: Study) -> list[str]:
    """Sort all nodes so that each stands after what it stands on.

    Returns:
        "pools/POOL", "gans/COHORT" and "classifiers/COHORT".

    Raises:
        UserError: when the nodes form a circle; the message goes round it.
    """
    try:
        return list(TopologicalSorter(dict(_list_edges(study))).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise UserError(f"a cohort stands on itself: {circle}") from error


def need(name: str, known: Iterable[str], key: str, section: str) -> None:
    """Check that a name is known.

    Args:
        name: what was found.
        known: what there is.
        key: where the name was found.
        section: of params.yaml where it is looked for.

    Raises:
        UserError: names the key, the name, the section and what is known.
    """
    known = sorted(known)
    if name not in known:
        raise UserError(f"{key}: {name!r} is not in {section} (known: {', '.join(known)})")


def _list_edges(study: Study) -> Iterator[tuple[str, list[str]]]:
    for name, pool in study.pools.items():
        extended = [] if pool.extends == NO_POOL else [f"pools/{pool.extends}"]
        yield f"pools/{name}", [pool.cohort, *extended]
    for name, gans in study.gans.items():
        yield f"gans/{name}", [] if gans.fools == NO_POOL else [f"pools/{gans.fools}"]
    for name, classifiers in study.classifiers.items():
        yield f"classifiers/{name}", [f"pools/{classifiers.detects}"]


def _check_cases(section: str, names: Iterable[str]) -> None:
    """Refuse names that one folder would stand for where file systems ignore case."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise UserError(f"{section}.{name}: differs from {section}.{other} in case only")


def _check_pool(study: Study, name: str, pool: Pool) -> None:
    cohorts = get_cohorts(study, pool.kind)
    need(pool.cohort_name, cohorts, f"pools.{name}.cohort", pool.kind.value)
    num_instances = cohorts[pool.cohort_name].instances
    for instance in pool.instances:
        if instance >= num_instances:
            raise UserError(
                f"pools.{name}.instances: {instance} is not in {pool.cohort}, "
                f"which has instances 0 to {num_instances - 1}"
            )
    if pool.extends != NO_POOL:
        need(pool.extends, study.pools, f"pools.{name}.extends", "pools")
        if study.pools[pool.extends].kind is not pool.kind:
            raise UserError(
                f"pools.{name}.extends: {pool.extends!r} holds "
                f"{study.pools[pool.extends].kind}, {name!r} holds {pool.kind}"
            )


def _check_distinct(study: Study, name: str) -> None:
    members = list_members(study, name)
    for cohort, instance in members:
        if members.count((cohort, instance)) > 1:
            raise UserError(
                f"pools.{name}.instances: {instance} of {cohort} stands in it twice, "
                f"once by way of {study.pools[name].extends!r}"
            )


def _check_stands_on(study: Study, key: str, pool_name: str, kind: Kind) -> None:
    if pool_name == NO_POOL:
        return
    need(pool_name, [NO_POOL, *study.pools], key, "pools")
    if study.pools[pool_name].kind is not kind:
        raise UserError(
            f"{key}: pool {pool_name!r} holds {study.pools[pool_name].kind}, {kind} are needed"
        )


def _check_report(study: Study) -> None:
    report = study.report
    for key, iterations in (("iterations", report.iterations), ("memoryless", report.memoryless)):
        for index, entry in enumerate(iterations):
            need(entry.gans, study.gans, f"report.{key}.{index}.gans", "gans")
            if entry.classifiers is not None:
                where = f"report.{key}.{index}.classifiers"
                need(entry.classifiers, study.classifiers, where, "classifiers")
        _check_no_repeats(
            [entry.classifiers for entry in iterations if entry.classifiers is not None],
            f"report.{key}",
        )
        _check_no_repeats([entry.gans for entry in iterations], f"report.{key}")
    _check_no_repeats(report.phi_sweep, "report.phi_sweep")
    for index, name in enumerate(report.phi_sweep):
        need(name, study.gans, f"report.phi_sweep.{index}", "gans")
    if report.generalisation is not None:
        need(report.generalisation.gans, study.gans, "report.generalisation.gans", "gans")
        for index, name in enumerate(report.generalisation.classifiers):
            where = f"report.generalisation.classifiers.{index}"
            need(name, study.classifiers, where, "classifiers")


def _check_no_repeats(names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{key}: {name!r} stands in it twice")
