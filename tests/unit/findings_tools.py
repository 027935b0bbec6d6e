"""A study with every reading and tables that are made up for it, to judge claims on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from knowledge_gaps.findings.judge import Answer, ask_all
from knowledge_gaps.findings.schema import Findings, load_findings
from knowledge_gaps.findings.sources import list_study_cells
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import check_graph, list_members

REPOSITORY = Path(__file__).parents[2]
FINDINGS = load_findings(REPOSITORY / "findings.yaml")
NUM_TARGETS = 8
RECIPE = {"steps": 1, "batch_size": 2}
ADAM = {"learning_rate": 0.1}

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
    classifier = {"dcgan": "cnn", "stylegan2": "resnet50"}[gan]
    architectures = {"c": classifier, "i": "inception_v3", "m": "mobilenet_v2"}
    cohorts = {f"fool_{i}": [f"c_{j}" for j in range(i)] for i in (1, 2, 3)}
    cohorts |= {"less_2": ["c_1"], "less_3": ["cless_2"], "memory_3": ["c_1", "c_2"]}
    cohorts |= {"fool_i": ["i_2"], "fool_m": ["m_2"]}
    phis = {f"phi_{power}": 10.0**power for power in (-2, -1, 0, 1, 2, 3)}
    pools: dict[str, Any] = {}
    gans: dict[str, Any] = {"base": _make_gans(num + 3, "none", 0.0)}
    for name, fooled in cohorts.items():
        pools |= _chain(f"against_{name}", [(f"classifiers/{cohort}", 0) for cohort in fooled])
        gans[name] = _make_gans(num, f"against_{name}", 0.1)
    pools |= _chain("first_3", [("classifiers/c_0", k) for k in range(3)])
    gans |= {name: _make_gans(num, "against_fool_1", phi) for name, phi in phis.items()}
    gans |= {"multi_1": _make_gans(num, "against_fool_1", 0.1)}
    gans |= {"multi_3": _make_gans(num, "first_3", 0.1)}
    for target in range(NUM_TARGETS):
        pools |= _chain(f"target_{target}", [("classifiers/c_0", target)])
        gans[f"hit_{target}"] = _make_gans(2, f"target_{target}", 0.1)
    trained_on = {f"c_{i}": f"fool_{i}" for i in (1, 2, 3)}
    trained_on |= {"cless_2": "less_2", "cless_3": "less_3", "cmemory_3": "memory_3"}
    for name in dict.fromkeys(["base", *trained_on.values()]):
        pools |= _chain(f"on_{name}", [(f"gans/{name}", 0), (f"gans/{name}", 1)])
    pools |= _chain("on_one", [("gans/base", 0)])
    classifiers = {name: _make_classifiers(num, f"on_{of}") for name, of in trained_on.items()}
    classifiers |= {"c_0": _make_classifiers(max(num, NUM_TARGETS), "on_base")}
    classifiers |= {"n_1": _make_classifiers(num, "on_one"), "n_2": classifiers["c_0"]}
    for other in ("i", "m"):
        classifiers[f"{other}_1"] = _make_classifiers(num, "on_one", other)
        classifiers[f"{other}_2"] = _make_classifiers(num, "on_base", other)
    sweeps = [_make_sweep("n_1", "n_2"), _make_sweep("i_1", "i_2"), _make_sweep("m_1", "m_2")]
    classifiers |= {"psi": _make_classifiers(num, "on_base") | {"truncation": 0.5}}
    recipe = {**RECIPE, "generator_optimizer": ADAM, "discriminator_optimizer": ADAM}
    content = {
        "study": {"name": "made_up", "seed": 0},
        "data": {"name": "mnist", "source": "reduced", "directory": "data/mnist"},
        "gan_recipes": {"g": recipe | {"architecture": gan}},
        "classifier_recipes": {
            name: {**RECIPE, "architecture": architecture, "optimizer": ADAM}
            for name, architecture in architectures.items()
        },
        "pools": pools,
        "gans": gans,
        "classifiers": classifiers,
        "evaluation": {"num_images": 100},
        "report": {
            "iterations": _link("base c_0", "fool_1 c_1", "fool_2 c_2", "fool_3 c_3"),
            "memoryless": _link("base c_0", "fool_1 c_1", "less_2 cless_2", "less_3 cless_3"),
            "memory": _link("base c_0", "fool_1 c_1", "fool_2 c_2", "memory_3 cmemory_3"),
            "phi_sweep": list(phis),
            "multi_instance": ["multi_1", "multi_3"],
            "mutual_fooling": [f"hit_{target}" for target in range(NUM_TARGETS)],
            "architectures": _link("fool_1 c_0", "fool_i i_2", "fool_m m_2"),
            "generalisation": sweeps if gan == "stylegan2" else sweeps[:1],
            "truncation": {"gans": "base", "classifiers": ["psi", "n_2"]},
        },
    }
    study = Study.model_validate(content)
    check_graph(study)
    return study


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


def _make_gans(num: int, fools: str, phi: float) -> dict[str, Any]:
    return {"recipe": "g", "instances": num, "fools": fools, "phi": phi}


def _make_classifiers(num: int, detects: str, recipe: str = "c") -> dict[str, Any]:
    return {"recipe": recipe, "instances": num, "detects": detects}


def _make_sweep(*classifiers: str) -> dict[str, Any]:
    return {"gans": "base", "classifiers": list(classifiers)}


def _chain(name: str, members: list[tuple[str, int]]) -> dict[str, Any]:
    """Make a pool of single instances, each extending the one before."""
    pools: dict[str, Any] = {}
    last = "none"
    for number, (cohort, instance) in enumerate(members, start=1):
        key = name if number == len(members) else f"{name}_{number}"
        pools[key] = {"extends": last, "cohort": cohort, "instances": [instance]}
        last = key
    return pools


def _link(*entries: str) -> list[dict[str, str]]:
    return [dict(zip(("gans", "classifiers"), entry.split(), strict=True)) for entry in entries]
