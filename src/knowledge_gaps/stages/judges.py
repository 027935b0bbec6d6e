"""judges: detectors that take part in no loss are trained and score every generator's images.

Each judge is trained against every pool that classifiers detect, on as many images of its
generators as of the reals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.core import layout, tables
from knowledge_gaps.core.files import hash_file, make_key
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.core.seeding import derive_seed
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.evaluation.detection import measure_detection
from knowledge_gaps.evaluation.judging import (
    Features,
    Judge,
    choose_judges,
    count_trained,
    get_judge,
)
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.statistics import measures
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_detected, list_generators

_CODE = (
    "data/images.py",
    "evaluation/batches.py",
    "evaluation/descriptions.py",
    "evaluation/detection.py",
    "evaluation/judging.py",
    "losses.py",
    "statistics/spectra.py",
)
_COLUMNS = (
    tables.JUDGE,
    tables.POOL,
    tables.GENERATOR_COHORT,
    tables.GENERATOR_CHAIN,
    tables.GENERATOR_INSTANCE,
    tables.IN_TRAINING,
    tables.NUM_IMAGES,
    measures.DETECTION_RATE,
    measures.REAL_ACCURACY,
    measures.AUC,
)

_Name = tuple[str, Instance]  # GAN cohort, instance
_Item = tuple[str, str, _Name]  # judge, pool that it is trained against, generator
_Pool = tuple[str, int]  # and the chain
_Job = tuple[str, dict[_Pool, list[_Name]]]  # judge, and by pool the generators to be scored


def run(root: Path, study: Study) -> None:
    """Write judges.csv, computing what is new; raises UserError for a bad file or name."""

    def compute(missing: list[_Item]) -> Iterator[dict[_Item, Row]]:
        jobs: dict[str, dict[_Pool, list[_Name]]] = {}
        for judge, pool, generator in missing:
            of_chain = pool, generator[1].chain
            jobs.setdefault(judge, {}).setdefault(of_chain, []).append(generator)
        judged = map_parallel(partial(_judge, root, study), list(jobs.items()), __name__)
        for (judge, pools), rows in zip(jobs.items(), judged, strict=True):
            words = count_words(len(pools), "pool")
            print(f"judges: {judge} was trained against {words}", flush=True)
            yield rows

    rows = compute_rows(root, "judges", _make_keys(root, study), compute)
    table = [_make_row(item, _is_in_pool(study, item), row) for item, row in rows.items()]
    path = layout.get_reports(root, study.study.name) / layout.JUDGES_FILE
    tables.write_table(path, pd.DataFrame(table, columns=list(_COLUMNS)))


def _make_keys(root: Path, study: Study) -> dict[_Item, str]:
    """Hash what each row is computed from."""
    prepared, names = root / layout.PREPARED, (layout.TRAIN_IMAGES, layout.TEST_IMAGES)
    samples = {
        one: hash_file(layout.get_samples_file(root, *one)) for one in list_generators(study)
    }
    shared = [
        [hash_file(prepared / name) for name in names],
        study.study.seed,
        study.evaluation.num_images,
        get_versions(("numpy", "scikit-learn", "scipy", "torch")),
    ]
    keys: dict[_Item, str] = {}
    for judge in choose_judges(study.evaluation):
        code = hash_code((*_CODE, f"evaluation/judges/{judge}.py"))
        for pool in list_detected(study):
            for one, images in samples.items():
                trained_on = [samples[each] for each in _list_pool(study, (pool, one[1].chain))]
                item = judge, pool, one
                is_in_pool = _is_in_pool(study, item)
                keys[item] = make_key(
                    [judge, code, pool, one[1].chain], trained_on, images, is_in_pool, shared
                )
    return keys


def _list_pool(study: Study, pool: _Pool) -> list[_Name]:
    name, chain = pool
    return [(cohort, Instance(chain, index)) for cohort, index in list_detected(study)[name]]


def _is_in_pool(study: Study, item: _Item) -> bool:
    _, pool, (cohort, instance) = item
    return (cohort, instance.number) in list_detected(study)[pool]


def _judge(root: Path, study: Study, job: _Job) -> dict[_Item, Row]:
    """Train one judge against pools, and score generators that it has not scored yet."""
    name, pools = job
    judge, prepared = get_judge(name), root / layout.PREPARED
    num_images = study.evaluation.num_images
    members = {pool: _list_pool(study, pool) for pool in pools}
    training = judge.describe_all(open_images(prepared / layout.TRAIN_IMAGES), num_images)
    reals = judge.describe_all(open_images(prepared / layout.TEST_IMAGES))
    num_trained = {pool: count_trained(num_images, len(members[pool])) for pool in pools}
    scores = {}
    for pool in pools:
        generated = _describe_pool(root, judge, members[pool], num_trained[pool])
        seed = derive_seed(study.study.seed, "judges", name, *pool)
        scores[pool] = judge.fit(training, generated, seed)
    scores_real = {pool: score(reals) for pool, score in scores.items()}
    rows: dict[_Item, Row] = {}
    for one in dict.fromkeys(one for generators in pools.values() for one in generators):
        # described once for all pools
        images = judge.describe_all(open_images(layout.get_samples_file(root, *one)))
        for pool in (pool for pool, generators in pools.items() if one in generators):
            start = num_trained[pool] if one in members[pool] else 0  # those before were trained on
            found = scores[pool](images[start:])
            measured = measure_detection(found, scores_real[pool])
            rows[name, pool[0], one] = {tables.NUM_IMAGES: len(found), **measured}
    return rows


def _describe_pool(root: Path, judge: Judge, generators: list[_Name], num_images: int) -> Features:
    """Describe the first images of every generator, one generator after the other."""
    files = (open_images(layout.get_samples_file(root, *one)) for one in generators)
    return np.concatenate([judge.describe_all(images, num_images) for images in files])


def _make_row(item: _Item, is_in_training: bool, measured: Mapping[str, object]) -> Row:
    judge, pool, (cohort, instance) = item
    described = {
        tables.JUDGE: judge,
        tables.POOL: pool,
        tables.GENERATOR_COHORT: cohort,
        tables.GENERATOR_CHAIN: instance.chain,
        tables.GENERATOR_INSTANCE: instance.number,
        tables.IN_TRAINING: is_in_training,
    }
    return {**described, **{name: measured[name] for name in _COLUMNS[len(described) :]}}
