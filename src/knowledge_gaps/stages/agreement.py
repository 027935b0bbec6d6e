"""agreement: how alike the classifiers of one cohort are, in their errors and in their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from knowledge_gaps.analyses.agreement.measure import (
    Pair,
    answer_sets,
    choose_cohort,
    compare_answers,
    list_pairs,
)
from knowledge_gaps.analyses.agreement.reading import COLUMNS
from knowledge_gaps.core.cache import Row, make_key
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import (
    AGREEMENT_FILE,
    get_instance_directory,
    get_reports_directory,
)
from knowledge_gaps.core.tables import CLASSIFIER_COHORT, write_table
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.cached import compute_rows
from knowledge_gaps.evaluation.detection import hash_classifier
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.study import Study

_CODE = ("analyses/agreement/measure.py", "statistics/agreement.py")
_VERSIONS = ("numpy", "scikit-learn", "scipy", "torch")


def run(root: Path, study: Study) -> None:
    """Write reports/agreement.csv; only pairs that are new or changed are compared.

    A study without such a cohort gets a table without rows.

    Raises:
        UserError: when a checkpoint or a file of images is missing or altered.
    """
    cohort = choose_cohort(study)
    pairs = [] if cohort is None else list(list_pairs(root, study, cohort))
    directories = {
        instance: get_instance_directory(root, f"classifiers/{cohort}", instance)
        for instance in _list_instances(pairs)
    }
    keys = _make_keys(pairs, directories)
    found = compute_rows(root, "agreement", keys, partial(_compare, directories))
    rows = [{CLASSIFIER_COHORT: cohort, **pair._asdict(), **row} for pair, row in found.items()]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(get_reports_directory(root) / AGREEMENT_FILE, table)


def _list_instances(pairs: Sequence[Pair]) -> list[int]:
    return sorted({one for pair in pairs for one in (pair.classifier_a, pair.classifier_b)})


def _make_keys(pairs: Sequence[Pair], directories: Mapping[int, Path]) -> dict[Pair, str]:
    """Hash what each pair's row depends on."""
    shared = [hash_code(_CODE), get_versions(_VERSIONS)]
    paths = {source.path for pair in pairs for source in pair.scored}
    files = {path: open_images(path).compute_sha256() for path in paths}
    hashes = {instance: hash_classifier(path) for instance, path in directories.items()}

    def describe(pair: Pair) -> list[list[list[object]]]:
        # the whole set decides which images' features are compared
        sets = (pair.scored, pair.kept)
        return [[[files[one.path], one.num_images, one.is_real] for one in each] for each in sets]

    return {
        pair: make_key(hashes[pair.classifier_a], hashes[pair.classifier_b], describe(pair), shared)
        for pair in pairs
    }


def _compare(directories: Mapping[int, Path], pairs: list[Pair]) -> Iterator[dict[Pair, Row]]:
    """Let every classifier score each set of images once, then compare the pairs."""
    answer = partial(answer_sets, sets=tuple(dict.fromkeys(pair.scored for pair in pairs)))
    instances = _list_instances(pairs)
    paths = [directories[instance] for instance in instances]
    answered = map_parallel(answer, paths, __name__, uses_gpu=True)
    answers = dict(zip(instances, answered, strict=True))
    for pair in pairs:
        first = answers[pair.classifier_a][pair.scored]
        second = answers[pair.classifier_b][pair.scored]
        yield {pair: compare_answers(first, second, pair.scored, pair.kept)}
