"""controls: images of generators that fool nobody are changed until classifiers are fooled.

These are the classifiers in the loss of the first cohort of the iterations that fools some. All
classifiers of their cohorts score the changed images, and those of that cohort's own GANs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.core import layout, tables
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.files import hash_file, make_key
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation import controlling, registry
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.evaluation.detection import hash_classifier, measure_detection, score_images
from knowledge_gaps.evaluation.quality import compute_frechet
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.readings.cohorts import Name, list_controlled, plan_controls
from knowledge_gaps.readings.tables import CLASSIFIER, GENERATOR
from knowledge_gaps.stages.detections import describe_pair, get_directory
from knowledge_gaps.statistics.measures import CONTROLLED_MEASURES
from knowledge_gaps.study import EvaluationSettings, Study

_CODE = (
    "core/seeding.py",
    "data/images.py",
    "evaluation/batches.py",
    "evaluation/controlling.py",
    "evaluation/quality.py",
    "evaluation/registry.py",
)
_COLUMNS = (
    *(tables.CONTROL, tables.DISTORTION, *GENERATOR, tables.GANS, *CLASSIFIER, tables.IN_LOSS),
    *(tables.NUM_IMAGES, *CONTROLLED_MEASURES, tables.MEAN_CHANGE),
)

_Pair = tuple[Name, Name]  # generator, classifier
_Item = tuple[str, int, Name, Name]  # control, distortion, generator, classifier
_Task = tuple[str, int, int]  # control, distortion, chain


def run(root: Path, study: Study) -> None:
    """Write controls.csv, computing what is new; raises UserError for a bad file.

    The table has no row where the study asks for no control, or `plan_controls` finds no images.
    """

    def compute(missing: list[_Item]) -> Iterator[dict[_Item, Row]]:
        tasks: dict[_Task, list[_Pair]] = {}
        for name, distortion, generator, classifier in missing:
            task = name, distortion, generator[1].chain
            tasks.setdefault(task, []).append((generator, classifier))
        measure = partial(_measure, root, study)
        measured = map_parallel(measure, list(tasks.items()), __name__, uses_gpu=True)
        for (name, distortion, chain), rows in zip(tasks, measured, strict=True):
            words = f"{name} {distortion or ''}".strip()
            print(f"controls: {words}: {count_words(len(rows), 'pair')} of chain {chain} scored")
            yield {(name, distortion, *pair): row for pair, row in rows.items()}

    rows = compute_rows(root, "controls", _make_keys(root, study), compute)
    described = [_make_row(study, item, row) for item, row in rows.items()]
    columns = [*_COLUMNS, controlling.name_distance(study.evaluation)]
    table = pd.DataFrame(described, columns=columns).astype({tables.DISTORTION: "Int64"})
    tables.write_table(layout.get_reports(root, study.study.name) / layout.CONTROLS_FILE, table)


def _make_keys(root: Path, study: Study) -> dict[_Item, str]:
    """Hash what each row is computed from."""
    settings, plan, prepared = study.evaluation, plan_controls(study), root / layout.PREPARED
    chosen = controlling.choose_controls(settings)
    if plan is None or not chosen:
        return {}
    shared = [
        [hash_file(prepared / name) for name in (layout.TRAIN_IMAGES, layout.TEST_IMAGES)],
        [settings.num_images, settings.num_perturbed, settings.extractor],
        registry.load_extractor(settings, root).hash_weights(),
        hash_code((*_CODE, f"evaluation/extractors/{settings.extractor}.py")),
        get_versions(("numpy", "scikit-learn", "scipy", "torch", "torch-fidelity")),
    ]
    codes = {name: hash_code([f"evaluation/controls/{name}.py"]) for name in chosen}
    classifiers = {one: hash_classifier(get_directory(root, one)) for one in plan.classifiers}
    items = list_controlled(study, {name: each.distortions for name, each in chosen.items()})
    samples = {
        generator: hash_file(layout.get_samples_file(root, *generator))
        for generator in dict.fromkeys(generator for _, _, generator, _ in items)
    }
    keys = {}
    for name, distortion, generator, classifier in items:
        fooled = [classifiers[one] for one in plan.in_loss if one[1].chain == generator[1].chain]
        parts = [samples[generator], fooled, classifiers[classifier], shared]
        key = make_key(name, codes[name], distortion, *parts)
        keys[name, distortion, generator, classifier] = key
    return keys


def _measure(root: Path, study: Study, job: tuple[_Task, list[_Pair]]) -> dict[_Pair, Row]:
    """Change the images of generators of one chain, and let classifiers score them."""
    ((name, distortion, chain), pairs), settings = job, study.evaluation
    plan, control = plan_controls(study), controlling.get_control(name)
    assert plan is not None
    fooled = [one for one in plan.in_loss if one[1].chain == chain]
    asked = dict.fromkeys([*fooled, *(classifier for _, classifier in pairs)])
    networks = {one: load_classifier(get_directory(root, one)).to(find_device()) for one in asked}
    test, train = (
        open_images(root / layout.PREPARED / n) for n in (layout.TEST_IMAGES, layout.TRAIN_IMAGES)
    )
    given = controlling.Given(train[: settings.num_images], [networks[one] for one in fooled])
    real = {one: score_images(networks[one], test, settings.num_perturbed) for one in asked}
    extractor, features = _load(root, settings)
    rows: dict[_Pair, Row] = {}
    for generator in dict.fromkeys(generator for generator, _ in pairs):
        stored = open_images(layout.get_samples_file(root, *generator))
        images = np.array(stored[: settings.num_perturbed])
        changed = control.change(images, given, distortion)
        described = {
            tables.NUM_IMAGES: len(changed),
            tables.MEAN_CHANGE: controlling.measure_change(changed, images),
            "distance": compute_frechet(registry.extract_features(changed, extractor), features),
        }
        for classifier in (classifier for one, classifier in pairs if one == generator):
            scores = score_images(networks[classifier], changed)
            measured = measure_detection(scores, real[classifier])
            kept = {measure: measured[measure] for measure in CONTROLLED_MEASURES}
            rows[generator, classifier] = described | kept
    return rows


@cache
def _load(
    root: Path, settings: EvaluationSettings
) -> tuple[registry.FeatureExtractor, registry.FeatureSet]:
    """Load what distances are measured with, once a worker; the reals are those of quality.csv."""
    extractor = registry.load_extractor(settings, root).to(find_device())
    test = open_images(root / layout.PREPARED / layout.TEST_IMAGES)
    return extractor, registry.extract_features(test, extractor, settings.num_images)


def _make_row(study: Study, item: _Item, row: Row) -> Row:
    (name, distortion, generator, classifier), plan = item, plan_controls(study)
    assert plan is not None
    return {
        **describe_pair(study, (generator, classifier)),
        **row,
        tables.CONTROL: name,
        tables.DISTORTION: distortion or None,
        tables.GANS: plan.gans,
        tables.IN_LOSS: classifier in plan.in_loss,  # of those GANs, also for other images
        controlling.name_distance(study.evaluation): row["distance"],
    }
