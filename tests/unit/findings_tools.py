"""A study with every reading and tables that are made up for it, to judge claims on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from knowledge_gaps.findings.judge import Answer, ask_all
from knowledge_gaps.findings.schema import Findings, load_findings
from knowledge_gaps.findings.sources import list_study_cells
from knowledge_gaps.readings.judges import JudgesContent
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.study import Study, read_yaml, validate_study
from knowledge_gaps.study.graph import list_generators, list_members

REPOSITORY = Path(__file__).parents[2]
FINDINGS = load_findings(REPOSITORY / "findings.yaml")
KEYS = ["generator_chain", "generator_instance", "loss"]
CHAIN_NOISE = 0.01  # standard deviation over chains of a held-out cell

# of a GAN cohort, a classifier cohort, and a classifier's number: the mean of held-out rates
Rate = Callable[[str, str, int], float]


class Story(NamedTuple):
    """What the tables of a study say."""

    rate: Rate
    noise: Callable[[str], float] = lambda gans: 0.01  # of an instance, and of a pair, by cohort
    auc: float = 0.9  # of held-out pairs
    rate_in_loss: float = 0.05
    auc_in_loss: float = 0.6
    fid: Mapping[str, float] = {}  # by GAN cohort, else 10
    entropy: Mapping[str, float] = {}  # likewise, else 2.2
    transfer: float = 0.7  # to held-out classifiers
    judge_auc: float = 0.6  # of the best judge outside the loop
    loss: float = 1.0  # of discriminators, at the end


class Tables(NamedTuple):
    """The two tables that claims are asked of."""

    detections: pd.DataFrame
    quality: pd.DataFrame


def choose_claims(*ids: str) -> Findings:
    """Keep some claims only."""
    claims = [claim for claim in FINDINGS.claims if claim.id in ids]
    assert len(claims) == len(ids)
    return FINDINGS.model_copy(update={"claims": claims})


def make_study(chains: int = 5, gan: str = "dcgan") -> Study:
    """Make a study with all readings.

    With "stylegan2" its iterations are of ResNet-50, and there is generalisation for three
    architectures; with "dcgan" they are of a plain CNN.
    """
    content = read_yaml(REPOSITORY / "tests" / "assets" / "made_up.yaml")
    content["study"]["chains"] = chains
    if gan == "dcgan":
        content["gan_recipes"]["g"]["architecture"] = "dcgan"
        content["classifier_recipes"]["c"]["architecture"] = "cnn"
        del content["report"]["generalisation"][1:]
    return validate_study(content, "made_up.yaml")


def make_tables(study: Study, story: Story, chain_noise: float = CHAIN_NOISE) -> Tables:
    """Make the tables of a study, with noise of chains, of generators and of pairs."""
    rng, other = np.random.default_rng(0), np.random.default_rng(1)
    pairs = _list_pairs(study, story)
    cells = pairs.groupby(["classifier_cohort", "generator_cohort"]).ngroup()
    generators = pairs.groupby(["classifier_cohort", *pairs.columns[:2]]).ngroup()
    noise = pairs["generator_cohort"].map(story.noise)
    detections = []
    for chain in range(study.study.chains):
        effects = chain_noise * rng.normal(size=cells.max() + 1)[cells]
        effects += noise * rng.normal(size=generators.max() + 1)[generators]
        effects += noise * rng.normal(size=len(pairs))
        rates = (pairs["detection_rate"] + effects).clip(0, 1)
        rates = rates.where(~pairs["in_loss"], story.rate_in_loss)
        chains = {"generator_chain": chain, "classifier_chain": chain}
        medians = pairs["median_score"] + chain_noise * other.normal() * ~pairs["in_loss"]
        judged = story.judge_auc + chain_noise * other.normal()
        shown = {"median_score": medians, "judge_auc": judged}
        detections.append(pairs.assign(**chains, **shown, detection_rate=rates))
    quality = []
    for gans, instance in list_generators(study):
        distance = story.fid.get(gans, 10.0) + rng.normal(0, 0.1)
        diversity = story.entropy.get(gans, 2.2) + rng.normal(0, 0.005)
        loss = story.loss + other.normal(0, 0.01)
        quality.append((gans, *instance, distance, diversity, 0.6, loss))
    names = ["generator_cohort", "generator_chain", "generator_instance"]
    names += ["fid_lenet_4k", "class_entropy_lenet_4k", "precision_lenet_4k", "loss"]
    return Tables(pd.concat(detections, ignore_index=True), pd.DataFrame(quality, columns=names))


def _list_pairs(study: Study, story: Story) -> pd.DataFrame:
    """List the pairs of a chain with the means of their rates."""
    rows, cohorts = [], product(study.classifiers.items(), study.gans.items())
    for (name, classifiers), (gans, cohort) in cohorts:
        fooled, seen = list_members(study, cohort.fools), list_members(study, classifiers.detects)
        for generator, classifier in np.ndindex(cohort.instances, classifiers.instances):
            in_loss = (f"classifiers/{name}", classifier) in fooled
            in_training = (f"gans/{gans}", generator) in seen
            mean = story.rate(gans, name, classifier)
            is_own = f"gans/{gans}" in {path for path, _ in seen}
            is_fooled = f"classifiers/{name}" in {path for path, _ in fooled} and not is_own
            shift = 1.0 if in_loss else story.transfer if is_fooled else 0.0
            keys = gans, generator, name, classifier, in_loss, in_training
            rows.append((*keys, mean, 4.0 * shift - 2.0))
    columns = "generator_cohort generator_instance classifier_cohort classifier_instance"
    columns += " in_loss in_training detection_rate median_score"
    pairs = pd.DataFrame(rows, columns=columns.split())
    aucs = np.where(pairs["in_loss"], story.auc_in_loss, story.auc)
    return pairs.assign(num_images=4000, real_accuracy=0.96, auc=aucs, median_score_real=2.0)


def mix(first: Tables, second: Tables, num_first: int) -> Tables:
    """Take the first chains of one study and the others of another one."""
    mixed = []
    for one, two in zip(first, second, strict=True):
        is_first = one["generator_chain"] < num_first  # both have the same rows
        mixed.append(pd.concat([one[is_first], two[~is_first]], ignore_index=True))
    return Tables(*mixed)


def make_results(study: Study, tables: Tables) -> Results:
    """Make what readings and claims read; there are no files, of judges and of curves either."""
    results = Results(Path(), study, *tables, 0)
    cells = tables.detections.groupby(["generator_cohort", "classifier_cohort"])
    best = {
        (str(gans), str(classifiers)): rows.groupby("generator_chain")["judge_auc"]
        .mean()
        .to_numpy()
        for (gans, classifiers), rows in cells
    }
    curves = {
        str(gans): pd.concat(
            pd.DataFrame(
                {"instance": f"{chain}/{number}", "step": [1, 50, 100]}
                | {"loss_discriminator": [9.0, 9.0, loss]}
            )
            for chain, number, loss in rows[KEYS].itertuples(index=False)
        )
        for gans, rows in tables.quality.groupby("generator_cohort")
    }
    results._contents.update(judges=JudgesContent([], {}, {}, best), curves=curves)
    return results


def ask_study(study: Study, tables: Tables, findings: Findings = FINDINGS) -> dict[str, Answer]:
    """Ask a study all claims."""
    source = partial(list_study_cells, make_results(study, tables))
    return ask_all(findings, source, (study.data.name, study.evaluation.extractor))
