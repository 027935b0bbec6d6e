"""What stands on what: every name that an entry uses exists, and nothing stands on itself.

The edges are cohort -> pool -> pool that it extends, and pool -> cohort that it takes instances of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study.recipes import (
    NO_POOL,
    REALS,
    ClassifierCohort,
    ClassifierRecipe,
    GanCohort,
    GanRecipe,
    Kind,
)
from knowledge_gaps.study.schema import (
    REALS_TRAIN,
    ClassifierSweep,
    Iteration,
    Pool,
    Study,
)


def check_graph(study: Study) -> None:
    """Check all references of a study.

    Raises:
        UserError: for an unknown name, a pool of the wrong kind, an instance that its cohort does
            not have, or a circle; the message names both ends.
    """
    for name in (REALS, REALS_TRAIN):
        if name in study.gans:
            raise UserError(f"gans.{name}: the name stands for the reals in the tables")
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
    sort_nodes(study)
    for name in study.pools:
        _check_distinct(study, name)
    _check_report(study)  # it follows pools, which form no circle by now


def get_cohorts(study: Study, kind: Kind) -> dict[str, GanCohort] | dict[str, ClassifierCohort]:
    """Return the study's cohorts of one kind by name."""
    return study.gans if kind is Kind.GANS else study.classifiers


def find_recipe(study: Study, cohort: str) -> GanRecipe | ClassifierRecipe:
    """Find how a cohort is trained, given as "gans/COHORT" or "classifiers/COHORT"."""
    kind, _, name = cohort.partition("/")
    if kind == Kind.GANS:
        return study.gan_recipes[study.gans[name].recipe]
    return study.classifier_recipes[study.classifiers[name].recipe]


def list_members(study: Study, pool_name: str) -> list[tuple[str, int]]:
    """List the instances of a pool in order, as (kind/COHORT, instance)."""
    if pool_name == NO_POOL:
        return []
    pool = study.pools[pool_name]
    return [
        *list_members(study, pool.extends),
        *((pool.cohort, instance) for instance in pool.instances),
    ]


def split_detected(
    study: Study, classifiers: str
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Split a classifier cohort's pool into generators trained on and, its last ones, held out.

    Those held out, if any, only decide when the training stops.
    """
    cohort = study.classifiers[classifiers]
    members = list_members(study, cohort.detects)
    stopping = study.classifier_recipes[cohort.recipe].early_stopping
    num_left = len(members) - (0 if stopping is None else stopping.held_out_generators)
    return members[:num_left], members[num_left:]


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
    for key in ("iterations", "memoryless", "memory"):
        _check_chain(study, f"report.{key}", getattr(report, key))
    for key in ("phi_sweep", "multi_instance", "mutual_fooling"):
        names: list[str] = getattr(report, key)
        _check_no_repeats(names, f"report.{key}")
        for index, name in enumerate(names):
            need(name, study.gans, f"report.{key}.{index}", "gans")
    for index, sweep in enumerate(report.generalisation):
        _check_sweep(study, f"report.generalisation.{index}", sweep)
        _check_one_architecture(study, f"report.generalisation.{index}", sweep)
    swept = [name for sweep in report.generalisation for name in sweep.classifiers]
    _check_no_repeats(swept, "report.generalisation")
    if report.truncation is not None:
        _check_sweep(study, "report.truncation", report.truncation)
    _check_architectures(study)
    _check_fooled(study, "multi_instance", max_members=None)
    _check_fooled(study, "mutual_fooling", max_members=1)
    _check_differ(
        "report.multi_instance",
        {name: len(list_members(study, study.gans[name].fools)) for name in report.multi_instance},
        "classifiers in the loss",
    )
    if report.truncation is not None:
        _check_differ(
            "report.truncation.classifiers",
            {name: study.classifiers[name].truncation for name in report.truncation.classifiers},
            "truncation",
        )


def _check_sweep(study: Study, key: str, sweep: ClassifierSweep) -> None:
    need(sweep.gans, study.gans, f"{key}.gans", "gans")
    _check_no_repeats(sweep.classifiers, f"{key}.classifiers")
    for index, name in enumerate(sweep.classifiers):
        need(name, study.classifiers, f"{key}.classifiers.{index}", "classifiers")


def _check_one_architecture(study: Study, key: str, sweep: ClassifierSweep) -> None:
    found = {
        name: study.classifier_recipes[study.classifiers[name].recipe].architecture
        for name in sweep.classifiers
    }
    if len(set(found.values())) > 1:
        words = ", ".join(f"{name} is {architecture}" for name, architecture in found.items())
        raise UserError(f"{key}.classifiers: one architecture is needed, {words}")


def _check_architectures(study: Study) -> None:
    """Check that each entry's GANs fool classifiers of the entry's own cohort."""
    entries = study.report.architectures
    _check_no_repeats([entry.classifiers for entry in entries], "report.architectures")
    for index, entry in enumerate(entries):
        key = f"report.architectures.{index}"
        need(entry.classifiers, study.classifiers, f"{key}.classifiers", "classifiers")
        need(entry.gans, study.gans, f"{key}.gans", "gans")
        fooled = {cohort for cohort, _ in list_members(study, study.gans[entry.gans].fools)}
        if fooled != {f"{Kind.CLASSIFIERS}/{entry.classifiers}"}:
            found = ", ".join(sorted(fooled)) or "no classifier"
            raise UserError(
                f"{key}.gans: {entry.gans!r} fools {found}, "
                f"classifiers/{entry.classifiers} alone is needed"
            )


def _check_differ(key: str, values: Mapping[str, float], what: str) -> None:
    """Refuse two entries at one place of an axis."""
    seen: dict[float, str] = {}
    for name, value in values.items():
        if seen.setdefault(value, name) != name:
            raise UserError(
                f"{key}: {seen[value]!r} and {name!r} have one value of {what}, {value}"
            )


def _check_chain(study: Study, key: str, iterations: list[Iteration]) -> None:
    for index, entry in enumerate(iterations):
        need(entry.gans, study.gans, f"{key}.{index}.gans", "gans")
        if entry.classifiers is not None:
            need(entry.classifiers, study.classifiers, f"{key}.{index}.classifiers", "classifiers")
    _check_no_repeats([entry.gans for entry in iterations], key)
    _check_no_repeats([entry.classifiers for entry in iterations if entry.classifiers], key)


def _check_fooled(study: Study, reading: str, max_members: int | None) -> None:
    """Check that the GANs of a reading fool classifiers of one cohort, and not too many."""
    cohorts: dict[str, str] = {}  # classifier cohort: the GAN cohort that fools it
    fooled: dict[tuple[str, int], str] = {}
    for name in getattr(study.report, reading):
        members = list_members(study, study.gans[name].fools)
        if not members:
            raise UserError(f"report.{reading}: {name!r} fools no classifier")
        if max_members is not None and len(members) > max_members:
            raise UserError(
                f"report.{reading}: {name!r} fools {len(members)} classifiers, "
                f"at most {max_members} is allowed"
            )
        if max_members == 1 and fooled.setdefault(members[0], name) != name:
            raise UserError(f"report.{reading}: {fooled[members[0]]!r} and {name!r} fool the same")
        cohorts.update({cohort: name for cohort, _ in members})
    if max_members == 1 and len(fooled) == 1:
        raise UserError(f"report.{reading}: one GAN cohort found, at least two are needed")
    if len(cohorts) > 1:
        found = ", ".join(f"{gans} fools {cohort}" for cohort, gans in cohorts.items())
        raise UserError(f"report.{reading}: classifiers of one cohort are needed, {found}")


def _check_no_repeats(names: list[str], key: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{key}: {name!r} stands in it twice")
