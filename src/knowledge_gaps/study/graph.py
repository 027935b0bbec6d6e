"""References between the entries of a study: every name exists, and no cohort depends on itself.

The edges are cohort -> pool -> pool that it extends, and pool -> cohort that it takes instances of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

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
from knowledge_gaps.study.schema import REALS_TRAIN, Study

_Item = TypeVar("_Item")


def check_graph(study: Study) -> None:
    """Check all references of a study.

    Raises:
        UserError: for an unknown name, a pool of the wrong kind, an instance that its cohort does
            not have, or a circle; the message names both ends.
    """
    _check_names(study)
    for key, name, section in _list_references(study):
        need(name, getattr(study, section), key, section)
    _check_pools(study)
    sort_nodes(study)
    for name, pool in study.pools.items():
        for cohort, instance in _find_repeated(list_members(study, name)):
            raise UserError(
                f"pools.{name}.instances: {instance} of {cohort} is in it twice, "
                f"once through {pool.extends!r}"
            )
    _check_report(study)


def get_cohorts(study: Study, kind: Kind) -> dict[str, GanCohort] | dict[str, ClassifierCohort]:
    """Return the study's cohorts of one kind by name."""
    return study.gans if kind is Kind.GANS else study.classifiers


def find_recipe(study: Study, cohort: str) -> GanRecipe | ClassifierRecipe:
    """Find the recipe of a cohort, given as "gans/COHORT" or "classifiers/COHORT"."""
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
    """Sort all nodes so that each comes after those that it depends on.

    Returns:
        "pools/POOL", "gans/COHORT" and "classifiers/COHORT".

    Raises:
        UserError: when the nodes form a circle; the message lists it.
    """
    try:
        return list(TopologicalSorter(dict(_list_edges(study))).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise UserError(f"a cohort depends on itself: {circle}") from error


def need(name: str, known: Iterable[str], key: str, section: str) -> None:
    """Check that a name is known.

    Args:
        name: the value that was found.
        known: the names that are allowed.
        key: where the name was found.
        section: of params.yaml that has the known names.

    Raises:
        UserError: names the key, the name, the section and the known names.
    """
    known = sorted(known)
    if name not in known:
        raise UserError(f"{key}: {name!r} is not in {section} (known: {', '.join(known)})")


def _list_edges(study: Study) -> Iterator[tuple[str, list[str]]]:
    for name, pool in study.pools.items():
        extended = [] if pool.extends == NO_POOL else [f"pools/{pool.extends}"]
        yield f"pools/{name}", [pool.cohort, *extended]
    for kind in Kind:
        for name, cohort in get_cohorts(study, kind).items():
            yield f"{kind}/{name}", [] if cohort.pool == NO_POOL else [f"pools/{cohort.pool}"]


def _check_names(study: Study) -> None:
    """Refuse reserved names, and two that are one folder where file systems ignore case."""
    for name in (REALS, REALS_TRAIN):
        if name in study.gans:
            raise UserError(f"gans.{name}: the tables use this name for the reals")
    if NO_POOL in study.pools:
        raise UserError(f"pools.{NO_POOL}: this name is the pool without instances")
    for section in ("pools", "gans", "classifiers"):
        folders: dict[str, str] = {}
        for name in getattr(study, section):
            other = folders.setdefault(name.lower(), name)
            if other != name:
                raise UserError(f"{section}.{name}: differs from {section}.{other} in case only")


def _list_references(study: Study) -> Iterator[tuple[str, str, str]]:
    """Yield every name that refers to another entry: its key, the name, the entry's section."""
    for name, pool in study.pools.items():
        yield f"pools.{name}.cohort", pool.cohort_name, pool.kind.value
        if pool.extends != NO_POOL:
            yield f"pools.{name}.extends", pool.extends, "pools"
    for name, gans in study.gans.items():
        yield f"gans.{name}.recipe", gans.recipe, "gan_recipes"
        if gans.fools != NO_POOL:
            yield f"gans.{name}.fools", gans.fools, "pools"
    for name, classifiers in study.classifiers.items():
        yield f"classifiers.{name}.recipe", classifiers.recipe, "classifier_recipes"
        if classifiers.detects == NO_POOL:
            key = f"classifiers.{name}.detects"
            raise UserError(f"{key}: {NO_POOL!r} has no generators to detect")
        yield f"classifiers.{name}.detects", classifiers.detects, "pools"
    yield from _walk_report(study.report.model_dump(), "report", "gans")


def _walk_report(value: object, key: str, section: str) -> Iterator[tuple[str, str, str]]:
    """Yield the names in the report's section; a list without keys names GAN cohorts."""
    if isinstance(value, str):
        yield key, value, section
    elif isinstance(value, dict):
        for name, entry in value.items():
            inner = "classifiers" if name == "classifiers" else "gans"
            yield from _walk_report(entry, f"{key}.{name}", inner)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _walk_report(entry, f"{key}.{index}", section)


def _check_pools(study: Study) -> None:
    """Check that instances exist, and that every pool is of the kind that its user needs."""
    needed = [
        (f"gans.{name}.fools", gans.fools, Kind.CLASSIFIERS) for name, gans in study.gans.items()
    ]
    for name, classifiers in study.classifiers.items():
        needed.append((f"classifiers.{name}.detects", classifiers.detects, Kind.GANS))
    for name, pool in study.pools.items():
        needed.append((f"pools.{name}.extends", pool.extends, pool.kind))
        num_instances = get_cohorts(study, pool.kind)[pool.cohort_name].instances
        for instance in pool.instances:
            if instance >= num_instances:
                raise UserError(
                    f"pools.{name}.instances: {instance} is not in {pool.cohort}, "
                    f"which has instances 0 to {num_instances - 1}"
                )
    for key, name, kind in needed:
        if name != NO_POOL and study.pools[name].kind is not kind:
            found = study.pools[name].kind
            raise UserError(f"{key}: pool {name!r} holds {found}, {kind} are needed")


def _check_report(study: Study) -> None:
    report = study.report
    for key in ("iterations", "memoryless", "memory"):
        classifiers = [entry.classifiers for entry in getattr(report, key)]
        _check_no_repeats(f"report.{key}", [entry.gans for entry in getattr(report, key)])
        _check_no_repeats(f"report.{key}", [name for name in classifiers if name is not None])
    for key in ("phi_sweep", "multi_instance", "mutual_fooling"):
        _check_no_repeats(f"report.{key}", getattr(report, key))
    _check_generalisation(study)
    _check_architectures(study)
    _check_fooled(study)
    if report.truncation is not None:
        key, names = "report.truncation.classifiers", report.truncation.classifiers
        _check_no_repeats(key, names)
        truncations = {name: study.classifiers[name].truncation for name in names}
        _check_differ(key, truncations, "truncation")


def _check_generalisation(study: Study) -> None:
    """Check that each sweep is of one architecture, and no classifier cohort in two."""
    sweeps = study.report.generalisation
    _check_no_repeats("report.generalisation", [name for s in sweeps for name in s.classifiers])
    for index, sweep in enumerate(sweeps):
        found = {name: find_recipe(study, f"classifiers/{name}") for name in sweep.classifiers}
        if len({recipe.architecture for recipe in found.values()}) > 1:
            words = ", ".join(f"{name} is {found[name].architecture}" for name in found)
            key = f"report.generalisation.{index}.classifiers"
            raise UserError(f"{key}: one architecture is needed, {words}")


def _check_architectures(study: Study) -> None:
    """Check that each entry's GANs fool classifiers of the entry's own cohort."""
    entries = study.report.architectures
    _check_no_repeats("report.architectures", [entry.classifiers for entry in entries])
    for index, entry in enumerate(entries):
        fooled = {cohort for cohort, _ in list_members(study, study.gans[entry.gans].fools)}
        if fooled != {f"classifiers/{entry.classifiers}"}:
            found = ", ".join(sorted(fooled)) or "no classifier"
            raise UserError(
                f"report.architectures.{index}.gans: {entry.gans!r} fools {found}, "
                f"classifiers/{entry.classifiers} alone is needed"
            )


def _check_fooled(study: Study) -> None:
    """Check that the GANs of two readings fool different classifiers of one cohort."""
    for reading in ("multi_instance", "mutual_fooling"):
        key, names = f"report.{reading}", getattr(study.report, reading)
        fooled = {name: list_members(study, study.gans[name].fools) for name in names}
        cohorts = {cohort: name for name in names for cohort, _ in fooled[name]}
        for name in names:
            if not fooled[name]:
                raise UserError(f"{key}: {name!r} fools no classifier")
            if reading == "mutual_fooling" and len(fooled[name]) > 1:
                raise UserError(f"{key}: {name!r} fools {len(fooled[name])} classifiers, not one")
        if len(cohorts) > 1:
            found = ", ".join(f"{name} fools {cohort}" for cohort, name in cohorts.items())
            raise UserError(f"{key}: classifiers of one cohort are needed, {found}")
        if reading == "multi_instance":
            sizes = {name: len(members) for name, members in fooled.items()}
            _check_differ(key, sizes, "classifiers in the loss")
        elif len(names) == 1:
            raise UserError(f"{key}: one GAN cohort found, at least two are needed")
        else:
            instances = {name: members[0][1] for name, members in fooled.items()}
            _check_differ(key, instances, "the classifier in the loss")


def _check_differ(key: str, values: Mapping[str, float], what: str) -> None:
    """Refuse two entries with one value."""
    names: dict[float, str] = {}
    for name, value in values.items():
        other = names.setdefault(value, name)
        if other != name:
            raise UserError(f"{key}: {other!r} and {name!r} have one value of {what}, {value}")


def _check_no_repeats(key: str, names: Iterable[str]) -> None:
    for name in _find_repeated(names):
        raise UserError(f"{key}: {name!r} is in it twice")


def _find_repeated(items: Iterable[_Item]) -> list[_Item]:
    return [item for item, count in Counter(items).items() if count > 1]
