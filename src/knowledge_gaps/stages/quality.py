"""quality: how good every generator's images are, whether it has collapsed, what it is close to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path

import pandas as pd

from knowledge_gaps.core import layout
from knowledge_gaps.core.devices import find_device
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, make_key
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.tables import write_table
from knowledge_gaps.data.store import open_images
from knowledge_gaps.evaluation import quality, registry
from knowledge_gaps.evaluation.cached import Row, compute_rows
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.statistics import measures
from knowledge_gaps.statistics.rules import Diversity, judge_collapse
from knowledge_gaps.study import REALS, EvaluationSettings, Study
from knowledge_gaps.study.graph import list_generators

_CODE = (
    "data/images.py",
    "evaluation/batches.py",
    "evaluation/lenet.py",
    "evaluation/quality.py",
    "evaluation/registry.py",
    "statistics/rules.py",
)
_NUM_CLOSEST = 10  # pairs of a cohort in neighbours.csv

_Name = tuple[str, Instance]  # generator cohort, instance; the floor has the cohort of the reals
_FLOOR = (REALS, Instance(0, 0))


def run(root: Path, study: Study) -> None:
    """Write quality.csv and neighbours.csv; raises UserError when a file is missing."""
    # nothing here depends on judges and perturbations, and `cache` takes no lists
    settings = study.evaluation.model_copy(update={"judges": None, "perturbations": None})
    files = {_FLOOR: root / layout.PREPARED / layout.TRAIN_IMAGES}
    files |= {name: layout.get_samples_file(root, *name) for name in list_generators(study)}

    def compute(missing: list[_Name]) -> Iterator[dict[_Name, Row]]:
        measure, of_missing = partial(_measure, root, settings), [files[name] for name in missing]
        measured = map_parallel(measure, of_missing, __name__, uses_gpu=True)
        for name, row in zip(missing, measured, strict=True):
            print(f"quality: measured {name[0]}/{name[1]}", flush=True)
            yield {name: row}

    rows = compute_rows(root, "quality", _make_keys(root, settings, files), compute)
    reports = layout.get_reports(root, study.study.name)
    write_table(reports / layout.QUALITY_FILE, _make_quality_table(root, study, rows))
    write_table(reports / layout.NEIGHBOURS_FILE, _make_neighbours_table(study, rows))


def _make_keys(
    root: Path, settings: EvaluationSettings, files: Mapping[_Name, Path]
) -> dict[_Name, str]:
    """Hash what each row is computed from; raises UserError for a file of too few images."""
    test = root / layout.PREPARED / layout.TEST_IMAGES
    stores = {path: open_images(path) for path in (test, *files.values())}
    for path, store in stores.items():
        if len(store) < settings.num_images:
            needed = f"evaluation.num_images needs {settings.num_images}"
            raise UserError(f"{path}: holds {len(store)} images, {needed}")
    hashes = {path: hash_file(path) for path in stores}
    shared = [
        [hashes[test], hashes[files[_FLOOR]]],
        settings.num_images,
        settings.extractor,
        registry.load_extractor(settings, root).hash_weights(),
        hash_code((*_CODE, f"evaluation/extractors/{settings.extractor}.py")),
        get_versions(("numpy", "torch", "torch-fidelity")),
    ]
    return {name: make_key(hashes[path], shared) for name, path in files.items()}


def _measure(root: Path, settings: EvaluationSettings, images_file: Path) -> Row:
    """Measure one set of images: metrics, contrast, and its closest pairs with training reals."""
    extractor, reals = _load(root, settings)
    images, num_images = open_images(images_file), settings.num_images
    row = {"contrast": quality.measure_contrast(images, num_images)}
    if images_file.name == layout.TRAIN_IMAGES:
        return {**row, "metrics": quality.compute_floor(reals, num_images), "closest": []}
    generated = registry.extract_features(images, extractor, num_images)
    nearest = quality.find_nearest(generated.features, reals.training.features)
    metrics = quality.compute_quality(generated, reals, nearest.distances)
    return {**row, "metrics": metrics, "closest": quality.list_closest(nearest, _NUM_CLOSEST)}


@cache
def _load(
    root: Path, settings: EvaluationSettings
) -> tuple[registry.FeatureExtractor, quality.Reals]:
    """Load what all images are measured with, once a worker."""
    prepared = root / layout.PREPARED
    extractor = registry.load_extractor(settings, root).to(find_device())
    test, training = (open_images(prepared / n) for n in (layout.TEST_IMAGES, layout.TRAIN_IMAGES))
    features = registry.extract_features(test, extractor, settings.num_images)
    return extractor, quality.Reals(features, registry.extract_features(training, extractor))


def _make_quality_table(root: Path, study: Study, rows: Mapping[_Name, Row]) -> pd.DataFrame:
    settings, floor = study.evaluation, rows[_FLOOR]
    extractor = registry.load_extractor(settings, root)
    about = settings.num_images, _name_features(study), extractor.is_fid
    return pd.DataFrame(
        {
            "generator_cohort": cohort,
            "generator_chain": instance.chain,
            "generator_instance": instance.number,
            "phi": None if cohort == REALS else study.gans[cohort].phi,
            **{
                measures.name_metric(name, *about): row["metrics"][name]
                for name in measures.METRICS
            },
            "collapse": judge_collapse(
                _describe_diversity(row, extractor), _describe_diversity(floor, extractor)
            ),
        }
        for (cohort, instance), row in rows.items()
    )


def _name_features(study: Study) -> str:
    return measures.name_features(study.evaluation.extractor, study.data.name)


def _describe_diversity(row: Row, extractor: registry.FeatureExtractor) -> Diversity:
    metrics, num_classes = row["metrics"], extractor.num_classes
    return Diversity(
        contrast=row["contrast"],
        class_entropy=metrics[measures.CLASS_ENTROPY],
        missing_share=num_classes and metrics[measures.MISSING_CLASSES] / num_classes,
        recall=metrics[measures.RECALL],
    )


def _make_neighbours_table(study: Study, rows: Mapping[_Name, Row]) -> pd.DataFrame:
    """List the closest pairs of each GAN cohort, over its instances."""
    distance = f"distance_{_name_features(study)}"
    keys = ["generator_cohort", "generator_chain", "generator_instance"]
    columns = [*keys, "image", "training_image", distance]
    pairs = [
        (cohort, *instance, *pair)
        for (cohort, instance), row in rows.items()
        for pair in row["closest"]
    ]
    table = pd.DataFrame(pairs, columns=columns)
    table = table.sort_values([distance, "generator_chain", "generator_instance", "image"])
    cohorts = dict(iter(table.groupby("generator_cohort")))
    return pd.concat([cohorts[cohort].head(_NUM_CLOSEST) for cohort in study.gans])
