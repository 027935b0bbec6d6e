"""A study with every reading and tables that are made up for it, to judge claims on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from knowledge_gaps.findings.judge import Answer, ask_all
from knowledge_gaps.findings.schema import Findings, load_findings
from knowledge_gaps.findings.sources import list_study_cells
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.study import Study, read_yaml, validate_study
from knowledge_gaps.study.graph import list_members

REPOSITORY = Path(__file__).parents[2]
FINDINGS = load_findings(REPOSITORY / "findings.yaml")

# of a GAN cohort, a classifier cohort, and whether the classifier is in the loss: a mean
Rate = Callable[[str, str, bool, int], float]


def choose_claims(*ids: str) -> Findings:
    """Keep some claims only, which spares the others' draws."""
    claims = [claim for claim in FINDINGS.claims if claim.id in ids]
    assert len(claims) == len(ids)
    return FINDINGS.model_copy(update={"claims": claims})


def make_study(num: int = 6, gan: str = "dcgan") -> Study:
    """Make a study with all readings.

    Args:
        num: instances in most of its cohorts.
        gan: architecture of its GANs; with "stylegan2" its iterations are of ResNet-50, and there
            is generalisation for three architectures.
    """
    content = read_yaml(REPOSITORY / "tests" / "assets" / "made_up.yaml")
    gans, classifiers = content["gans"], content["classifiers"]
    for cohort in (*gans.values(), *classifiers.values()):
        cohort["instances"] = num if cohort["instances"] == 6 else cohort["instances"]
    gans["base"]["instances"] = num + 3
    classifiers["c_0"]["instances"] = classifiers["n_2"]["instances"] = max(num, 8)
    if gan == "dcgan":
        content["gan_recipes"]["g"]["architecture"] = "dcgan"
        content["classifier_recipes"]["c"]["architecture"] = "cnn"
        del content["report"]["generalisation"][1:]
    return validate_study(content, "made_up.yaml")


def make_detections(
    study: Study, rate: Rate, noise: Callable[[str], float] = lambda gans: 0.02, seed: int = 0
) -> pd.DataFrame:
    """Make a table of detections.

    Args:
        study: as from `make_study`.
        rate: mean of a pair.
        noise: standard deviation of an instance's and of a pair's own effect, by GAN cohort.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for name, classifiers in study.classifiers.items():
        seen = set(list_members(study, classifiers.detects))
        for gans, cohort in study.gans.items():
            fooled = set(list_members(study, cohort.fools))
            effects = rng.normal(0, noise(gans), cohort.instances)
            for generator, effect in enumerate(effects):
                for classifier in range(classifiers.instances):
                    in_loss = (f"classifiers/{name}", classifier) in fooled
                    mean = rate(gans, name, in_loss, classifier)
                    value = float(np.clip(mean + effect + rng.normal(0, noise(gans)), 0, 1))
                    flags = in_loss, (f"gans/{gans}", generator) in seen
                    rows.append((gans, generator, name, classifier, *flags, value, 0.9, value))
    columns = "generator_cohort generator_instance classifier_cohort classifier_instance"
    columns += " in_loss in_training detection_rate real_accuracy auc"
    return pd.DataFrame(rows, columns=columns.split())


def make_quality(
    study: Study, fid: Mapping[str, float], entropy: Mapping[str, float], seed: int = 0
) -> pd.DataFrame:
    """Make a table of quality; a cohort that is not named has FID 10 and class entropy 2."""
    rng = np.random.default_rng(seed)
    rows = []
    for gans, cohort in study.gans.items():
        for instance in range(cohort.instances):
            distance = fid.get(gans, 10.0) + rng.normal(0, 0.1)
            rows.append((gans, instance, distance, entropy.get(gans, 2.0) + rng.normal(0, 0.01)))
    columns = ["generator_cohort", "generator_instance", "fid_lenet_4k", "class_entropy_lenet_4k"]
    return pd.DataFrame(rows, columns=columns)


def ask_study(
    study: Study,
    detections: pd.DataFrame,
    quality: pd.DataFrame,
    findings: Findings = FINDINGS,
    num_resamples: int = 1_000,
) -> dict[str, Answer]:
    findings = findings.model_copy(update={"num_resamples": num_resamples})
    source = partial(list_study_cells, Results(Path(), study, detections, quality, 0))
    return ask_all(findings, source, study.evaluation.extractor)
