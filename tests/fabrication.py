"""A whole report's inputs, fabricated: tables with drawn numbers, damaged images, curves.

What they say does not matter, only that they have every shape that a study can have.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.analyses.agreement import reading as agreement
from knowledge_gaps.analyses.attributions import reading as attributions
from knowledge_gaps.report.build import choose_cohorts
from knowledge_gaps.statistics.measures import C2ST_LOG10_P, DETECTION_MEASURES, METRICS
from knowledge_gaps.study import Study, read_yaml
from knowledge_gaps.study.graph import list_members

REPOSITORY = Path(__file__).parents[1]
NUM_IMAGES = 64
EMPTY_COHORT = "phi_1e4"  # its quality is empty, as for a generator whose FID does not exist
ADAM = {"learning_rate": 1e-3}
ASSETS = REPOSITORY / "tests" / "assets"
STUDY, FOOLING, SMALL = (
    read_yaml(ASSETS / f"{name}.yaml") for name in ("fabricated", "fooling", "small")
)
AUDIT = """\
check,subject,fault,instance,steps,num_images,detection_rate,real_accuracy,auc,p_value,p_holm,num_defects,verdict
replay,cnn,none,0,600,2000,0.500000,0.500000,0.503000,0.740000,1.000000,,pass
control,cnn,truncated,0,600,2000,0.990000,0.990000,0.999000,0.000000,0.000000,,found
round_trip,train,none,,,600,,,,,,0,pass
"""
AGREEMENT = ",".join(agreement.COLUMNS) + "\n"
ATTRIBUTIONS = ",".join(attributions.COLUMNS) + "\n"
# values that do not matter to tests
DETECTION_FILLERS = {**dict.fromkeys(DETECTION_MEASURES[3:], 0.25), C2ST_LOG10_P: -12.5}
QUALITY_FILLERS = dict.fromkeys(
    ("kid_std", "density", "coverage", "missing_classes", "memorised"), 0.25
)

Images = npt.NDArray[np.uint8]


def make_study(changes: Mapping[str, object] | None = None) -> Study:
    """Make STUDY with other values by dotted key."""
    content = copy.deepcopy(STUDY)
    for path, value in (changes or {}).items():
        *parents, key = path.split(".")
        section = content
        for parent in parents:
            section = section[parent]
        section[key] = copy.deepcopy(value)
    return Study.model_validate(content)


def fabricate_root(root: Path, study: Study, reals: Images | None = None) -> None:
    """Write the inputs of a report as the stages would, with numbers drawn from a fixed seed.

    All images are drawn from reals, uint8 [N, C, H, W]; without these, from noise of 28 px.
    """
    rng = np.random.default_rng(0)
    if reals is None:
        reals = rng.integers(0, 256, (NUM_IMAGES, 1, 28, 28), dtype=np.uint8)
    save(root / "data/prepared/test.npy", reals)
    save(root / "data/prepared/train.npy", reals)
    shape = list(reals.shape[1:])
    dataset = {"name": study.data.name, "image_shape": shape, "num_train": 600, "num_test": 64}
    write(root / "data/prepared/dataset.json", json.dumps(dataset))
    write(root / "findings.yaml", (REPOSITORY / "findings.yaml").read_text())
    write(root / "reports/detections.csv", _to_csv(_list_detections(study, rng)))
    write(root / "reports/quality.csv", _to_csv(_list_quality(study, rng)))
    _write_evidence(root, study, reals.shape[1:])
    for cohort, gans in study.gans.items():
        for instance in range(gans.instances):
            noise = rng.normal(0, 8 + 25 * np.log10(1 + gans.phi), (NUM_IMAGES, *shape))
            damaged = np.clip(reals + noise, 0, 255).astype(np.uint8)  # the more, the larger phi
            save(root / f"data/samples/{cohort}/{instance}.npy", damaged)
            curves = _to_csv(_list_curves(study, cohort, rng))
            write(root / f"models/gans/{cohort}/{instance}/curves.csv", curves)


def save(path: Path, array: npt.NDArray[Any]) -> None:
    """Store an array, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)


def write(path: Path, text: str) -> Path:
    """Store a text, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def widen(table: str, fillers: Mapping[str, object]) -> str:
    """Add columns of one value each to a CSV table."""
    rows = pd.read_csv(StringIO(table), dtype=str)
    return rows.assign(**fillers).to_csv(index=False)


def write_attributions(
    root: Path, gans: str, cohort: str, classifiers: Sequence[int], shape: tuple[int, ...]
) -> None:
    """Write what the stage of that name leaves: two sets of images, pairs of three classifiers."""
    rng = np.random.default_rng(1)
    names, num_images, directory = [gans, "real"], 32, root / "data/attributions"
    lines = [ATTRIBUTIONS]
    for name in names:
        save(directory / name / "images.npy", rng.integers(0, 256, (3, *shape), dtype=np.uint8))
        maps = rng.normal(0, 0.1, (3, 3, *shape)).astype(np.float32)
        save(directory / name / "attributions.npy", maps)
        save(directory / name / "mean_absolute.npy", np.abs(maps).mean(axis=1))
        for a, b in combinations(classifiers, 2):
            rest = f"{a == classifiers[0]},false,{num_images},{rng.uniform():.6f},0.05"
            lines.append(f"{name},{cohort},{a},{b},{rest}\n")
    index = {"gans": gans, "classifier_cohort": cohort, "classifiers": [*classifiers]}
    sets = {"images": names, "num_images": dict.fromkeys(names, num_images)}
    write(directory / "index.json", json.dumps(index | sets))
    write(root / "reports/attributions.csv", "".join(lines))


def write_residuals(root: Path, name: str, num: int, shape: tuple[int, ...]) -> None:
    """Write the residuals of a cohort of so many instances."""
    rng = np.random.default_rng([0, *name.encode()])
    residuals = rng.uniform(0.5, 1.5, (num, *shape[1:])).astype(np.float32)
    save(root / f"data/spectra/{name}/residual_spectra.npy", residuals)
    fingerprints = rng.normal(0, 0.01, (num, *shape)).astype(np.float32)
    save(root / f"data/spectra/{name}/fingerprints.npy", fingerprints)


def _write_evidence(root: Path, study: Study, shape: tuple[int, ...]) -> None:
    """Write what the stages beside detections and quality leave; no attributions."""
    write(root / "reports/audit.csv", AUDIT)
    write(root / "reports/attributions.csv", ATTRIBUTIONS)
    write(root / "reports/agreement.csv", AGREEMENT)
    cohort = next(iter(study.gans))
    neighbours = "generator_cohort,generator_instance,image,training_image,"
    neighbours += f"distance_{study.evaluation.extractor}\n"
    rows = f"{cohort},0,3,1,0.5\n{cohort},0,2,0,0.25\n"
    write(root / "reports/neighbours.csv", neighbours + rows)
    write(root / "data/attributions/index.json", json.dumps({"gans": None}))
    rng = np.random.default_rng(0)
    lines = ["generator_cohort,generator_instance,frequency,power\n"]
    for name in ["real", "real_train", *choose_cohorts(study)]:
        powers = rng.uniform(0.5, 1.5, shape[-1] // 2)
        lines += [f"{name},0,{f},{power}\n" for f, power in enumerate(powers, start=1)]
        write_residuals(root, name, 1, shape)
    write(root / "reports/spectra.csv", "".join(lines))


def _to_csv(rows: Iterable[dict[str, object]]) -> str:
    return pd.DataFrame(list(rows)).to_csv(index=False)


def _list_detections(study: Study, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    for gan_cohort, gans in study.gans.items():
        fooled = list_members(study, gans.fools)
        for classifier_cohort, classifiers in study.classifiers.items():
            detected = list_members(study, classifiers.detects)
            for pair in np.ndindex(gans.instances, classifiers.instances):
                in_loss = (f"classifiers/{classifier_cohort}", pair[1]) in fooled
                rate = max(0.0, 0.99 - 0.08 * rng.exponential(1 + gans.phi / 9))
                rate = 0.02 if in_loss else round(rate, 6)
                yield {
                    "generator_cohort": gan_cohort,
                    "generator_instance": pair[0],
                    "classifier_cohort": classifier_cohort,
                    "classifier_instance": pair[1],
                    "in_loss": in_loss,
                    "in_training": (f"gans/{gan_cohort}", pair[0]) in detected,
                    "num_images": study.evaluation.num_images,
                    "detection_rate": rate,
                    "real_accuracy": 0.98 + 0.002 * pair[1],
                    "auc": 0.5 + rate / 2,
                    **DETECTION_FILLERS,
                }


def _list_quality(study: Study, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """List rows with every metric of the study's extractor; random_vgg has no classes."""
    extractor = study.evaluation.extractor
    rows = [
        (cohort, instance, gans.phi, 6 + rng.uniform() + 4 * gans.phi**0.5)
        for cohort, gans in study.gans.items()
        for instance in range(gans.instances)
    ]
    for cohort, instance, phi, fid in [*rows, ("real", 0, "", 0.85)]:
        values: dict[str, object] = {"fid": fid, "kid": 0.0123, "precision": 0.71, "recall": 0.42}
        if cohort == EMPTY_COHORT:
            values = dict.fromkeys(values, "")
        values |= {"class_entropy": 2.29 / (1 + float(phi or 0)), **QUALITY_FILLERS}
        if extractor == "random_vgg":
            values |= {"frechet": fid, "class_entropy": "", "missing_classes": ""}
        names = ["frechet" if extractor == "random_vgg" else "fid", *METRICS[1:]]
        yield {
            "generator_cohort": cohort,
            "generator_instance": instance,
            "phi": phi,
            **{f"{name}_{extractor}_4k": values[name] for name in names},
            "collapse": "intact",
        }


def _list_curves(
    study: Study, cohort: str, rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    """List losses, and of a recipe with path lengths the scalars of its regularisers."""
    phi = study.gans[cohort].phi
    recipe = study.gan_recipes[study.gans[cohort].recipe]
    for step in range(300, 3001, 300):
        row: dict[str, object] = {
            "step": step,
            "loss_discriminator": 1.2 + 0.1 * rng.normal(),
            "loss_generator": 0.9 + 0.1 * rng.normal(),
            "loss_fooling": 3 / (1 + step / 300) if phi > 0 else "",
        }
        if recipe.path_length_weight > 0:
            row |= {"r1_penalty": 0.2 + 0.02 * rng.normal(), "path_length": 4 - 3 / step**0.5}
        yield row
