"""agreement: how alike the classifiers of one cohort are, in their errors and in their features.

The cohort is the one whose classifiers are fooled one by one (report.mutual_fooling), or else that
of iteration 0. Its pairs are compared on reals and generators that none of them was trained on, and
on generators that fool classifiers of the cohort.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from knowledge_gaps.analyses.agreement.measure import (
    Answer,
    Source,
    ask_classifier,
    compare_answers,
)
from knowledge_gaps.core.cache import Row, RowCache, make_key
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.fingerprint import get_versions
from knowledge_gaps.core.layout import (
    AGREEMENT_FILE,
    TEST_IMAGES,
    get_instance_directory,
    get_prepared_directory,
    get_reports_directory,
    get_samples_file,
)
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.detection import hash_classifier
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.statistics.agreement import FOOLING, FOOLING_OTHERS, HELD_OUT
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import list_members

COLUMNS = (
    "classifier_cohort",
    "classifier_a",
    "classifier_b",
    "on_images",
    "num_images",
    "num_errors_a",
    "num_errors_b",
    "num_errors_both",
    "observed_agreement",
    "expected_agreement",
    "error_consistency",
    "num_cka_images",
    "cka",
)
_VERSIONS = ("numpy", "scikit-learn", "scipy", "torch")

ImageSet = tuple[Source, ...]


@dataclass(frozen=True)
class _Pair:
    """Two classifiers of the cohort, and what they are compared on.

    Attributes:
        a: instance of the first one.
        b: instance of the second one.
        on_images: name of what they are compared on.
        asked: the set of images that all classifiers are asked about.
        kept: what of it this pair is compared on.
    """

    a: int
    b: int
    on_images: str
    asked: ImageSet
    kept: ImageSet


@dataclass(frozen=True)
class _Job:
    """One classifier, and the sets of images that it is asked about."""

    classifier: Path
    sets: tuple[ImageSet, ...]


def run(root: Path, study: Study) -> None:
    """Write reports/agreement.csv; only pairs that are new or changed are compared.

    A study without such a cohort gets a table without rows.

    Raises:
        UserError: when a checkpoint or a file of images is missing or altered.
    """
    cohort = choose_cohort(study)
    rows = [] if cohort is None else _compare_all(root, study, cohort)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(get_reports_directory(root) / AGREEMENT_FILE, table)


def choose_cohort(study: Study) -> str | None:
    """Return the classifier cohort whose pairs are compared, or None when the report names none."""
    report = study.report
    if report.mutual_fooling:
        [member] = list_members(study, study.gans[report.mutual_fooling[0]].fools)
        return member[0].partition("/")[2]
    return report.iterations[0].classifiers if report.iterations else None


def list_held_out(root: Path, study: Study, cohort: str) -> ImageSet:
    """List reals, and as many images of generators that the cohort was not trained on.

    The generators are the other instances of the GAN cohorts that it was trained on; without any,
    the set is empty.
    """
    detected = list_members(study, study.classifiers[cohort].detects)
    names = dict.fromkeys(gans.partition("/")[2] for gans, _ in detected)
    files = [
        get_samples_file(root, name, instance)
        for name in names
        for instance in range(study.gans[name].instances)
        if (f"{Kind.GANS}/{name}", instance) not in detected
    ]
    if not files:
        return ()
    reals_file = get_prepared_directory(root) / TEST_IMAGES
    num_reals = len(open_images(reals_file))
    files = files[:num_reals]  # an image of each at least
    share = min(study.evaluation.num_images, num_reals // len(files))
    reals = Source(reals_file, share * len(files), is_real=True)
    return (reals, *(Source(path, share, is_real=False) for path in files))


def list_fooling(root: Path, study: Study, cohort: str) -> ImageSet:
    """List images of the generators that fool classifiers of a cohort.

    The GAN cohorts are those of report.mutual_fooling, or else the first iteration's that does;
    they share the set evenly, and so do the instances of each.
    """
    report = study.report
    names = report.mutual_fooling or [iteration.gans for iteration in report.iterations]
    fooled = {name: _list_in_loss(study, name, cohort) for name in names}
    fooling = [name for name in names if fooled[name]]
    if not report.mutual_fooling:
        fooling = fooling[:1]
    num_instances = {name: study.gans[name].instances for name in fooling}
    num_of_cohort = min(num_instances.values(), default=0) * study.evaluation.num_images
    return tuple(
        Source(
            path=get_samples_file(root, name, instance),
            num_images=max(1, num_of_cohort // num_instances[name]),
            is_real=False,
            in_loss=fooled[name],
        )
        for name in fooling
        for instance in range(num_instances[name])
    )


def _list_in_loss(study: Study, gans: str, cohort: str) -> tuple[int, ...]:
    if study.gans[gans].phi == 0:
        return ()
    members = list_members(study, study.gans[gans].fools)
    return tuple(instance for name, instance in members if name == f"{Kind.CLASSIFIERS}/{cohort}")


def _compare_all(root: Path, study: Study, cohort: str) -> list[Row]:
    pairs = list(_list_pairs(root, study, cohort))
    keys = _make_keys(root, cohort, pairs)
    cache = RowCache(root, "agreement")
    known = [cache.get(key) for key in keys]
    missing = [pair for pair, row in zip(pairs, known, strict=True) if row is None]
    compared = _compare(root, cohort, missing)
    rows: list[Row] = []
    for pair, key, row in zip(pairs, keys, known, strict=True):
        measured = next(compared) if row is None else row
        cache.put(key, measured)
        named = {"classifier_a": pair.a, "classifier_b": pair.b, "on_images": pair.on_images}
        rows.append({"classifier_cohort": cohort, **named, **measured})
    cache.save()
    num_known = len(pairs) - len(missing)
    print(f"compared {count_words(len(missing), 'pair')}, {num_known} known already")
    return rows


def _list_pairs(root: Path, study: Study, cohort: str) -> Iterator[_Pair]:
    held_out, fooling = (list_(root, study, cohort) for list_ in (list_held_out, list_fooling))
    instances = range(study.classifiers[cohort].instances)
    for name, asked in ((HELD_OUT, held_out), (FOOLING, fooling), (FOOLING_OTHERS, fooling)):
        for a, b in combinations(instances, 2):
            is_others = name == FOOLING_OTHERS
            kept = tuple(s for s in asked if not (is_others and {a, b} & set(s.in_loss)))
            if kept:
                yield _Pair(a, b, name, asked, kept)


def _make_keys(root: Path, cohort: str, pairs: Sequence[_Pair]) -> list[str]:
    """Name what each pair's row is computed from, by content."""
    versions = get_versions(_VERSIONS)
    paths = {source.path for pair in pairs for source in pair.asked}
    files = {path: open_images(path).compute_sha256() for path in paths}
    classifiers = {
        instance: hash_classifier(_get_directory(root, cohort, instance))
        for instance in _list_instances(pairs)
    }

    def describe(sources: ImageSet) -> list[list[str | int]]:
        return [[files[s.path], s.num_images, s.is_real] for s in sources]

    return [
        make_key(
            classifiers[pair.a],
            classifiers[pair.b],
            describe(pair.asked),  # decides which images' features are compared
            describe(pair.kept),
            versions,
        )
        for pair in pairs
    ]


def _compare(root: Path, cohort: str, pairs: Sequence[_Pair]) -> Iterator[Row]:
    """Ask every classifier once about each set of images, then compare the pairs."""
    sets = tuple(dict.fromkeys(pair.asked for pair in pairs))
    instances = _list_instances(pairs)
    jobs = [_Job(_get_directory(root, cohort, instance), sets) for instance in instances]
    asked = map_parallel(_ask, jobs, __name__, uses_gpu=True)
    answers: dict[int, Mapping[ImageSet, Answer]] = {}
    for instance, given in zip(instances, asked, strict=True):
        answers[instance] = given
        print(f"agreement: asked {cohort}/{instance}", flush=True)
    for pair in pairs:
        first, second = (answers[instance][pair.asked] for instance in (pair.a, pair.b))
        yield compare_answers(first, second, pair.asked, pair.kept)


def _ask(job: _Job) -> dict[ImageSet, Answer]:
    classifier = load_classifier(job.classifier).to(find_device())
    return {sources: ask_classifier(classifier, sources) for sources in job.sets}


def _list_instances(pairs: Sequence[_Pair]) -> list[int]:
    return sorted({instance for pair in pairs for instance in (pair.a, pair.b)})


def _get_directory(root: Path, cohort: str, instance: int) -> Path:
    return get_instance_directory(root, f"{Kind.CLASSIFIERS}/{cohort}", instance)
