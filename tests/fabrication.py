"""A whole report's inputs, fabricated: tables with drawn numbers, damaged images, curves.

What they say does not matter, only that they have every shape that a study can have.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from knowledge_gaps.analyses.agreement import reading as agreement
from knowledge_gaps.analyses.attributions import reading as attributions
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import get_reports
from knowledge_gaps.evaluation.controlling import choose_controls, name_distance
from knowledge_gaps.evaluation.judging import choose_judges
from knowledge_gaps.evaluation.perturbing import choose_perturbations
from knowledge_gaps.readings.cohorts import list_controlled, list_perturbed_pairs, plan_controls
from knowledge_gaps.report.build import choose_cohorts
from knowledge_gaps.statistics.measures import C2ST_LOG10_P, DETECTION_MEASURES, METRICS
from knowledge_gaps.study import Study, read_yaml
from knowledge_gaps.study.graph import (
    list_classifiers,
    list_detected,
    list_generators,
    list_instances,
    list_members,
)

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
    rng, reports = np.random.default_rng(0), get_reports(root, study.study.name)
    if reals is None:
        reals = rng.integers(0, 256, (NUM_IMAGES, 1, 28, 28), dtype=np.uint8)
    save(root / "data/prepared/test.npy", reals)
    save(root / "data/prepared/train.npy", reals)
    shape = list(reals.shape[1:])
    sizes = {"num_train": 600, "num_dev": 0, "num_test": 64}
    dataset = {"name": study.data.name, "image_shape": shape, **sizes}
    write(root / "data/prepared/dataset.json", json.dumps(dataset))
    write(root / "findings.yaml", (REPOSITORY / "findings.yaml").read_text())
    write(reports / "detections.csv", _to_csv(_list_detections(study, rng)))
    write(reports / "quality.csv", _to_csv(_list_quality(study, rng)))
    write(reports / "judges.csv", _to_csv(_list_judged(study)))
    write(reports / "perturbations.csv", _to_csv(_list_perturbed(study)))
    write(reports / "controls.csv", _to_csv(list_controls(study)))
    _write_evidence(root, study, reals.shape[1:])
    for cohort, instance in list_generators(study):
        noise = rng.normal(0, 8 + 25 * np.log10(1 + study.gans[cohort].phi), (NUM_IMAGES, *shape))
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
    root: Path,
    reports: Path,
    gans: str,
    cohort: str,
    classifiers: Sequence[int],
    shape: tuple[int, ...],
) -> None:
    """Write what that stage leaves: two sets of images, pairs of three classifiers."""
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
    write(reports / "attributions.csv", "".join(lines))


def write_residuals(root: Path, name: str, num: int, shape: tuple[int, ...]) -> None:
    """Write the residuals of a cohort of so many instances."""
    rng = np.random.default_rng([0, *name.encode()])
    residuals = rng.uniform(0.5, 1.5, (num, *shape[1:])).astype(np.float32)
    save(root / f"data/spectra/{name}/residual_spectra.npy", residuals)
    fingerprints = rng.normal(0, 0.01, (num, *shape)).astype(np.float32)
    save(root / f"data/spectra/{name}/fingerprints.npy", fingerprints)


def _write_evidence(root: Path, study: Study, shape: tuple[int, ...]) -> None:
    """Write what the stages beside detections and quality leave; no attributions."""
    reports = get_reports(root, study.study.name)
    write(reports / "audit.csv", AUDIT)
    write(reports / "attributions.csv", ATTRIBUTIONS)
    write(reports / "agreement.csv", AGREEMENT)
    cohort = next(iter(study.gans))
    neighbours = "generator_cohort,generator_chain,generator_instance,image,training_image,"
    neighbours += f"distance_{study.evaluation.extractor}\n"
    rows = f"{cohort},0,0,3,1,0.5\n{cohort},0,0,2,0,0.25\n"
    write(reports / "neighbours.csv", neighbours + rows)
    write(root / "data/attributions/index.json", json.dumps({"gans": None}))
    rng = np.random.default_rng(0)
    lines = ["generator_cohort,generator_chain,generator_instance,frequency,power\n"]
    for name in ["real", "real_train", *choose_cohorts(study)]:
        known = list_instances(study, study.gans[name]) if name in study.gans else [Instance(0, 0)]
        for chain, number in known:
            powers = enumerate(rng.uniform(0.5, 1.5, shape[-1] // 2), start=1)
            lines += [f"{name},{chain},{number},{f},{power}\n" for f, power in powers]
        write_residuals(root, name, len(known), shape)
    write(reports / "spectra.csv", "".join(lines))


def _to_csv(rows: Iterable[dict[str, object]]) -> str:
    return pd.DataFrame(list(rows)).to_csv(index=False)


def _list_detections(study: Study, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    for gan_cohort, generator in list_generators(study):
        gans = study.gans[gan_cohort]
        fooled = list_members(study, gans.fools)
        for classifier_cohort, classifier in list_classifiers(study):
            detected = list_members(study, study.classifiers[classifier_cohort].detects)
            in_loss = (f"classifiers/{classifier_cohort}", classifier.number) in fooled
            rate = max(0.0, 0.99 - 0.08 * rng.exponential(1 + gans.phi / 9))
            rate = 0.02 if in_loss else round(rate, 6)
            if generator.chain == classifier.chain:
                yield {
                    "generator_cohort": gan_cohort,
                    "generator_chain": generator.chain,
                    "generator_instance": generator.number,
                    "classifier_cohort": classifier_cohort,
                    "classifier_chain": classifier.chain,
                    "classifier_instance": classifier.number,
                    "in_loss": in_loss,
                    "in_training": (f"gans/{gan_cohort}", generator.number) in detected,
                    "num_images": study.evaluation.num_images,
                    "detection_rate": rate,
                    "real_accuracy": 0.98 + 0.002 * classifier.number,
                    "auc": 0.5 + rate / 2,
                    **DETECTION_FILLERS,
                    "median_score": 4 - 8 * rate,
                    "median_score_real": 4.0,
                }


def _list_perturbed(study: Study) -> Iterator[dict[str, object]]:
    """List rows of every perturbation; classifiers are blind under the last one."""
    rng, names = np.random.default_rng(2), list(choose_perturbations(study.evaluation))
    for name in names:
        for (gans, generator), (classifiers, classifier) in list_perturbed_pairs(study):
            fooled = list_members(study, study.gans[gans].fools)
            is_blind = name == names[-1]
            yield {
                "perturbation": name,
                "generator_cohort": gans,
                "generator_chain": generator.chain,
                "generator_instance": generator.number,
                "classifier_cohort": classifiers,
                "classifier_chain": classifier.chain,
                "classifier_instance": classifier.number,
                "in_loss": (f"classifiers/{classifiers}", classifier.number) in fooled,
                "in_training": False,
                "num_images": study.evaluation.num_perturbed,
                "detection_rate": rng.uniform(),
                "real_accuracy": 0.9,
                "auc": 0.5 if is_blind or study.gans[gans].phi > 1 else rng.uniform(0.85, 1),
                "detection_at_5pct": rng.uniform(),
            }


def list_controls(study: Study) -> Iterator[dict[str, object]]:
    """List rows of controls.csv: the more distortion, the less is detected and the further off."""
    plan = plan_controls(study)
    controls = {name: each.distortions for name, each in choose_controls(study.evaluation).items()}
    for name, level, (gans, generator), (classifiers, classifier) in list_controlled(
        study, controls
    ):
        assert plan is not None
        is_fooling, in_loss = gans == plan.gans, (classifiers, classifier) in plan.in_loss
        strength = 8 if is_fooling else level
        yield {
            "control": name,
            "distortion": level or None,
            "generator_cohort": gans,
            "generator_chain": generator.chain,
            "generator_instance": generator.number,
            "gans": plan.gans,
            "classifier_cohort": classifiers,
            "classifier_chain": classifier.chain,
            "classifier_instance": classifier.number,
            "in_loss": in_loss,
            "num_images": study.evaluation.num_perturbed,
            "detection_rate": 0.9 - strength / (80 if in_loss else 160),
            "real_accuracy": 0.9,
            "auc": 0.95 - strength / (80 if in_loss else 160),
            # reals at 4, the unchanged images at -4
            "median_score": -4 + strength / (1 if in_loss else 2) + generator.number / 16,
            "median_score_real": 4.0,
            "mean_change": level / 2,
            name_distance(study.evaluation): 10 + strength + 0.5 * is_fooling,
        }


def _list_quality(study: Study, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """List rows with every metric of the study's extractor; random_vgg has no classes."""
    extractor = study.evaluation.extractor
    rows = [
        (cohort, instance, phi, 6 + rng.uniform() + 4 * phi**0.5)
        for cohort, instance in list_generators(study)
        for phi in [study.gans[cohort].phi]
    ]
    for cohort, instance, phi, fid in [*rows, ("real", Instance(0, 0), "", 0.85)]:
        values: dict[str, object] = {"fid": fid, "kid": 0.0123, "precision": 0.71, "recall": 0.42}
        if cohort == EMPTY_COHORT:
            values = dict.fromkeys(values, "")
        values |= {"class_entropy": 2.29 / (1 + float(phi or 0)), **QUALITY_FILLERS}
        if extractor == "random_vgg":
            values |= {"frechet": fid, "class_entropy": "", "missing_classes": ""}
        names = ["frechet" if extractor == "random_vgg" else "fid", *METRICS[1:]]
        yield {
            "generator_cohort": cohort,
            "generator_chain": instance.chain,
            "generator_instance": instance.number,
            "phi": phi,
            **{f"{name}_{extractor}_4k": values[name] for name in names},
            "collapse": "intact",
        }


def _list_judged(study: Study) -> Iterator[dict[str, object]]:
    rng = np.random.default_rng(2)
    for judge, (pool, members), (cohort, instance) in product(
        choose_judges(study.evaluation), list_detected(study).items(), list_generators(study)
    ):
        rate = round(rng.uniform(0.4, 1), 6)
        yield {
            "judge": judge,
            "pool": pool,
            "generator_cohort": cohort,
            "generator_chain": instance.chain,
            "generator_instance": instance.number,
            "in_training": (cohort, instance.number) in members,
            "num_images": study.evaluation.num_images,
            "detection_rate": rate,
            "real_accuracy": 0.9,
            "auc": 0.5 + rate / 2,
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
