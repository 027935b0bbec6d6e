"""References between the entries of a study: every name exists, and no cohort depends on itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import product

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.instance import Instance
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


def check_graph(study: Study) -> None:
    """Check all references of a study; raises UserError, which names both ends."""
    _check_names(study)
    _check_references(study)
    sort_nodes(study)
    _check_instances(study)
    _check_report(study)


def get_cohorts(study: Study, kind: Kind) -> dict[str, GanCohort] | dict[str, ClassifierCohort]:
    """Return the study's cohorts of one kind by name."""
    return study.gans if kind is Kind.GANS else study.classifiers


def find_cohort(study: Study, path: str) -> GanCohort | ClassifierCohort:
    """Find a cohort, given as "gans/COHORT" or "classifiers/COHORT"."""
    kind, _, name = path.partition("/")
    return get_cohorts(study, Kind(kind))[name]


def find_recipe(study: Study, path: str) -> GanRecipe | ClassifierRecipe:
    """Find the recipe of a cohort, given as "gans/COHORT" or "classifiers/COHORT"."""
    cohort = find_cohort(study, path)
    recipes = study.gan_recipes if isinstance(cohort, GanCohort) else study.classifier_recipes
    return recipes[cohort.recipe]


def list_instances(study: Study, cohort: GanCohort | ClassifierCohort) -> list[Instance]:
    """List the instances of a cohort, chain by chain."""
    return [Instance(*each) for each in product(range(study.study.chains), range(cohort.instances))]


def list_generators(study: Study) -> list[tuple[str, Instance]]:
    """List all trained generators of a study as (cohort, instance)."""
    return [(name, i) for name, cohort in study.gans.items() for i in list_instances(study, cohort)]


def list_classifiers(study: Study) -> list[tuple[str, Instance]]:
    """List all trained classifiers of a study as (cohort, instance)."""
    cohorts = study.classifiers.items()
    return [(name, i) for name, cohort in cohorts for i in list_instances(study, cohort)]


def list_members(study: Study, pool_name: str) -> list[tuple[str, int]]:
    """List the instances of a pool in order, as (kind/COHORT, index in every chain)."""
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
    """Split a classifier cohort's pool: trained on, and its last ones, held out to stop early."""
    cohort = study.classifiers[classifiers]
    members = list_members(study, cohort.detects)
    stopping = study.classifier_recipes[cohort.recipe].early_stopping
    num_left = len(members) - (0 if stopping is None else stopping.held_out_generators)
    return members[:num_left], members[num_left:]


def list_detected(study: Study) -> dict[str, list[tuple[str, int]]]:
    """List the generators, as (cohort, index in a chain), of each pool that classifiers detect."""
    pools = dict.fromkeys(cohort.detects for cohort in study.classifiers.values())
    return {
        pool: [(path.partition("/")[2], number) for path, number in list_members(study, pool)]
        for pool in pools
    }


def sort_nodes(study: Study) -> list[str]:
    """Sort "pools/POOL", "gans/COHORT" and "classifiers/COHORT" after what each depends on.

    Raises UserError when they form a circle, which the message lists.
    """
    edges = {
        f"pools/{name}": [pool.cohort, *_name_pool(pool.extends)]
        for name, pool in study.pools.items()
    }
    for kind in Kind:
        for name, cohort in get_cohorts(study, kind).items():
            edges[f"{kind}/{name}"] = _name_pool(cohort.pool)
    try:
        return list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise UserError(f"a cohort depends on itself: {circle}") from error


def need(name: str, known: Iterable[str], key: str, section: str) -> None:
    """Check that a name, found under a key, is one of a section; raises UserError."""
    known = sorted(known)
    if name not in known:
        raise UserError(f"{key}: {name!r} is not in {section} (known: {', '.join(known)})")


def _name_pool(name: str) -> list[str]:
    return [] if name == NO_POOL else [f"pools/{name}"]


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


def _check_references(study: Study) -> None:
    """Check that every name is one of its section, and that pools hold the kind that is needed."""
    for name, pool in study.pools.items():
        need(pool.cohort_name, getattr(study, pool.kind), f"pools.{name}.cohort", pool.kind)
        _need_pool(study, pool.extends, f"pools.{name}.extends", pool.kind)
    for name, gans in study.gans.items():
        need(gans.recipe, study.gan_recipes, f"gans.{name}.recipe", "gan_recipes")
        _need_pool(study, gans.fools, f"gans.{name}.fools", Kind.CLASSIFIERS)
    for name, classifiers in study.classifiers.items():
        key = f"classifiers.{name}"
        need(classifiers.recipe, study.classifier_recipes, f"{key}.recipe", "classifier_recipes")
        if classifiers.detects == NO_POOL:
            raise UserError(f"{key}.detects: {NO_POOL!r} has no generators to detect")
        _need_pool(study, classifiers.detects, f"{key}.detects", Kind.GANS)
    for key, name, section in _walk_report(study):
        need(name, getattr(study, section), key, section)


def _need_pool(study: Study, name: str, key: str, kind: Kind) -> None:
    if name != NO_POOL:
        need(name, study.pools, key, "pools")
        if (found := study.pools[name].kind) is not kind:
            raise UserError(f"{key}: pool {name!r} holds {found}, {kind} are needed")


def _walk_report(study: Study) -> Iterator[tuple[str, str, str]]:
    """Yield the names in the report's section; a list without keys names GAN cohorts."""

    def walk(value: object, key: str, section: str) -> Iterator[tuple[str, str, str]]:
        if isinstance(value, str):
            yield key, value, section
        elif isinstance(value, dict):
            for name, entry in value.items():
                inner = "classifiers" if name == "classifiers" else "gans"
                yield from walk(entry, f"{key}.{name}", inner)
        elif isinstance(value, list):
            for index, entry in enumerate(value):
                yield from walk(entry, f"{key}.{index}", section)

    return walk(study.report.model_dump(), "report", "gans")


def _check_instances(study: Study) -> None:
    """Check that pools have instances that exist, each once."""
    for name, pool in study.pools.items():
        num_instances = get_cohorts(study, pool.kind)[pool.cohort_name].instances
        for instance in pool.instances:
            if instance >= num_instances:
                raise UserError(
                    f"pools.{name}.instances: {instance} is not in {pool.cohort}, "
                    f"which has instances 0 to {num_instances - 1}"
                )
            if (pool.cohort, instance) in list_members(study, pool.extends):
                raise UserError(
                    f"pools.{name}.instances: {instance} of {pool.cohort} is in it twice, "
                    f"once through {pool.extends!r}"
                )


def _check_report(study: Study) -> None:
    uses = Counter((key.split(".")[1], name, section) for key, name, section in _walk_report(study))
    for (reading, name, section), count in uses.items():
        may_repeat = section == "gans" and reading in ("architectures", "generalisation")
        if count > 1 and not may_repeat:
            raise UserError(f"report.{reading}: {name!r} is in it twice")
    _check_architectures(study)
    _check_fooled(study)
    if study.report.truncation is not None:
        names = study.report.truncation.classifiers
        truncations = {name: study.classifiers[name].truncation for name in names}
        _check_differ("truncation.classifiers", truncations, "truncation")


def _check_architectures(study: Study) -> None:
    """Check that a sweep is of one architecture, and that GANs fool their entry's classifiers."""
    for index, sweep in enumerate(study.report.generalisation):
        found = {
            name: find_recipe(study, f"classifiers/{name}").architecture
            for name in sweep.classifiers
        }
        if len(set(found.values())) > 1:
            words = ", ".join(f"{name} is {found[name]}" for name in found)
            key = f"report.generalisation.{index}.classifiers"
            raise UserError(f"{key}: one architecture is needed, {words}")
    for index, entry in enumerate(study.report.architectures):
        fooled = {cohort for cohort, _ in list_members(study, study.gans[entry.gans].fools)}
        if fooled != {f"classifiers/{entry.classifiers}"}:
            words = ", ".join(sorted(fooled)) or "no classifier"
            raise UserError(
                f"report.architectures.{index}.gans: {entry.gans!r} fools {words}, "
                f"classifiers/{entry.classifiers} alone is needed"
            )


def _check_fooled(study: Study) -> None:
    """Check that the GANs of two readings fool different classifiers of one cohort."""
    for key, most in (("multi_instance", None), ("mutual_fooling", 1)):
        names = getattr(study.report, key)
        fooled = {name: list_members(study, study.gans[name].fools) for name in names}
        cohorts = {cohort: name for name in names for cohort, _ in fooled[name]}
        for name in names:
            if not fooled[name]:
                raise UserError(f"report.{key}: {name!r} fools no classifier")
            if most is not None and len(fooled[name]) > most:
                number = len(fooled[name])
                raise UserError(f"report.{key}: {name!r} fools {number} classifiers, not one")
        if len(cohorts) > 1:
            found = ", ".join(f"{name} fools {cohort}" for cohort, name in cohorts.items())
            raise UserError(f"report.{key}: classifiers of one cohort are needed, {found}")
        if most is None:
            sizes = {name: len(members) for name, members in fooled.items()}
            _check_differ(key, sizes, "classifiers in the loss")
        elif len(names) == 1:
            raise UserError(f"report.{key}: one GAN cohort found, at least two are needed")
        else:
            instances = {name: members[0][1] for name, members in fooled.items()}
            _check_differ(key, instances, "the classifier in the loss")


def _check_differ(key: str, values: Mapping[str, float], what: str) -> None:
    """Refuse two entries with one value."""
    names: dict[float, str] = {}
    for name, value in values.items():
        other = names.setdefault(value, name)
        if other != name:
            raise UserError(
                f"report.{key}: {other!r} and {name!r} have one value of {what}, {value}"
            )
