"""A whole report's inputs, fabricated: tables with drawn numbers, damaged images, curves.

What they say does not matter, only that they have every shape that a study can have. The evidence
beside the two tables is in `report_tools`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from knowledge_gaps.statistics.measures import (
    CLASS_ENTROPY,
    FID,
    KID,
    METRICS,
    MISSING_CLASSES,
    PRECISION,
    RECALL,
    find_metric_of,
)
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_members
from report_tools import QUALITY_FILLERS, write_evidence

NUM_IMAGES = 64
EMPTY_COHORT = "phi_1e4"  # its quality is empty, as for a generator whose FID does not exist
_PROTOCOL = "4k"

Images = npt.NDArray[np.uint8]


def fabricate_root(root: Path, study: Study, reals: Images | None = None) -> None:
    """Write the inputs of a report as the stages would, with numbers drawn from a fixed seed.

    Args:
        root: an empty folder.
        study: whose cohorts are made up.
        reals: uint8 [N, C, H, W] to draw all images from; None for noise of 28 px.
    """
    rng = np.random.default_rng(0)
    if reals is None:
        reals = rng.integers(0, 256, (NUM_IMAGES, 1, 28, 28), dtype=np.uint8)
    _write_dataset(root, study, reals)
    _write_csv(root / "reports/detections.csv", list(_list_detections(study, rng)))
    _write_csv(root / "reports/quality.csv", list(_list_quality(study, rng)))
    write_evidence(root, study, shape=reals.shape[1:])
    for cohort, gans in study.gans.items():
        for instance in range(gans.instances):
            images = _fabricate_images(reals, gans.phi, rng)
            save(root / f"data/samples/{cohort}/{instance}.npy", images)
            curves = list(_list_curves(study, cohort, rng))
            _write_csv(root / f"models/gans/{cohort}/{instance}/curves.csv", curves)


def save(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Store an array, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)


def _write_dataset(root: Path, study: Study, reals: Images) -> None:
    save(root / "data/prepared/test.npy", reals)
    save(root / "data/prepared/train.npy", reals)
    shape = list(reals.shape[1:])
    dataset = {"name": study.data.name, "image_shape": shape, "num_train": 600, "num_test": 64}
    (root / "data/prepared/dataset.json").write_text(json.dumps(dataset))


def _write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _list_detections(study: Study, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    for gan_cohort, gans in study.gans.items():
        fooled = list_members(study, gans.fools)
        for classifier_cohort, classifiers in study.classifiers.items():
            detected = list_members(study, classifiers.detects)
            for pair in np.ndindex(gans.instances, classifiers.instances):
                in_loss = (f"classifiers/{classifier_cohort}", pair[1]) in fooled
                rate = (
                    0.02 if in_loss else max(0.0, 0.99 - 0.08 * rng.exponential(1 + gans.phi / 9))
                )
                yield {
                    "generator_cohort": gan_cohort,
                    "generator_instance": pair[0],
                    "classifier_cohort": classifier_cohort,
                    "classifier_instance": pair[1],
                    "in_loss": str(in_loss).lower(),
                    "in_training": str((f"gans/{gan_cohort}", pair[0]) in detected).lower(),
                    "num_images": study.evaluation.num_images,
                    "detection_rate": round(rate, 6),
                    "real_accuracy": 0.98 + 0.002 * pair[1],
                    "auc": round(0.5 + rate / 2, 6),
                    "balanced_accuracy": round((rate + 0.98) / 2, 6),
                    "average_precision": round(0.5 + rate / 2, 6),
                    "detection_at_1pct_false_alarms": round(0.8 * rate, 6),
                    "detection_at_5pct_false_alarms": round(0.9 * rate, 6),
                    "equal_error_rate": round((1 - rate) / 2, 6),
                    "calibration_error": round((1 - rate) / 2, 6),
                    "c2st_log10_p": round(-1000 * rate, 6),
                }


def _list_quality(study: Study, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """List rows with every metric of the study's extractor; random_vgg has no classes."""
    extractor = study.evaluation.extractor
    fillers = {find_metric_of(name): value for name, value in QUALITY_FILLERS.items()}

    def make_row(
        cohort: str, instance: int, phi: float | str, fid: float | str
    ) -> dict[str, object]:
        values: dict[str | None, object] = {**fillers}
        values[FID] = values["frechet"] = fid
        values |= {KID: 0.0123, PRECISION: 0.71, RECALL: 0.42}
        if fid == "":
            values |= dict.fromkeys((KID, PRECISION, RECALL), "")
        values[CLASS_ENTROPY] = round(2.29 / (1 + np.log10(1 + float(phi or 0))), 6)
        if extractor == "random_vgg":
            values |= dict.fromkeys((CLASS_ENTROPY, MISSING_CLASSES), "")
        distance = "frechet" if extractor == "random_vgg" else FID
        names = (distance, *METRICS[1:])
        metrics = {f"{name}_{extractor}_{_PROTOCOL}": values[name] for name in names}
        key = {"generator_cohort": cohort, "generator_instance": instance, "phi": phi}
        return {**key, **metrics, "collapse": QUALITY_FILLERS["collapse"]}

    for cohort, gans in study.gans.items():
        for instance in range(gans.instances):
            fid = round(6 + rng.uniform() + 4 * gans.phi**0.5, 6)
            yield make_row(cohort, instance, gans.phi, "" if cohort == EMPTY_COHORT else fid)
    yield make_row("real", 0, "", 0.85)


def _list_curves(
    study: Study, cohort: str, rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    """List losses, and of a recipe with path lengths the scalars of its regularisers."""
    phi = study.gans[cohort].phi
    recipe = study.gan_recipes[study.gans[cohort].recipe]
    for step in range(50, 3001, 50):
        fooling = 3 / (1 + step / 300) / (1 + phi) + 0.05 * rng.uniform()
        row: dict[str, object] = {
            "step": step,
            "loss_discriminator": 1.2 + 0.1 * rng.normal(),
            "loss_generator": 0.9 + 0.1 * rng.normal() + (fooling if phi > 0 else 0),
            "loss_fooling": fooling if phi > 0 else "",
        }
        if recipe.path_length_weight > 0:
            row |= {"r1_penalty": 0.2 + 0.02 * rng.normal(), "path_length": 4 - 3 / step**0.5}
        yield row


def _fabricate_images(reals: Images, phi: float, rng: np.random.Generator) -> Images:
    """Damage reals: the more, the larger phi."""
    noise = rng.normal(0, 8 + 25 * np.log10(1 + phi), (NUM_IMAGES, *reals.shape[1:]))
    chosen = reals[rng.integers(0, len(reals), NUM_IMAGES)]
    damaged: Images = np.clip(chosen + noise, 0, 255).astype(np.uint8)
    return damaged
