"""Verdicts on made-up studies with known effects, and what a selection takes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from findings_tools import (
    FINDINGS,
    Rate,
    ask_study,
    choose_claims,
    make_detections,
    make_quality,
    make_study,
)

from knowledge_gaps.findings.form import make_verdicts
from knowledge_gaps.findings.judge import Answer, Verdict, decide
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.statistics.bootstrap import Interval
from knowledge_gaps.study import Study

STUDY = make_study()
ITERATIONS = ["base", "fool_1", "fool_2", "fool_3"]
SETTINGS = {"dcgan": ("1", "3", "4"), "stylegan2": ("2", "5")}  # findings of one GAN alone


def tell_the_papers_story(gans: str, classifiers: str, in_loss: bool, classifier: int) -> float:
    """Return rates that every claim is true of."""
    row, chain = int(classifiers[-1]) if classifiers[-1].isdigit() else -1, classifiers[:2]
    if in_loss:
        return 0.05
    if gans.startswith("phi"):
        return 0.75
    if gans.startswith("multi"):
        return {"multi_1": 0.6, "multi_3": 0.2}[gans]
    if gans.startswith("hit"):  # two clusters, 0 to 3 and 4 to 7
        return 0.1 if (int(gans[-1]) < 4) == (classifier < 4) else 0.9
    if gans == "base" and classifiers != "c_0" and chain in ("n_", "i_", "m_", "ps"):
        return 0.6 if classifiers == "psi" else {"1": 0.75, "2": 0.97}[classifiers[-1]]
    if gans in ("fool_i", "fool_m"):
        return 0.1 if classifiers[0] == gans[-1] else 0.8
    if gans == "fool_1" and chain in ("i_", "m_"):
        return 0.8
    if gans.startswith("less"):
        return 0.9 if (int(gans[-1]) - row) % 2 == 0 else 0.1
    if gans == "memory_3":
        return 0.9 if row == 0 else 0.1
    if gans in ITERATIONS and chain == "c_":
        lag = ITERATIONS.index(gans) - row
        return 0.05 if lag > 0 else 0.97 - 0.09 * row if lag == 0 else 0.8
    return 0.5


def tell_the_opposite(gans: str, classifiers: str, in_loss: bool, classifier: int) -> float:
    """Return rates that no claim is true of."""
    if gans in ITERATIONS and classifiers[:2] == "c_":
        return 0.9 if ITERATIONS.index(gans) > int(classifiers[-1]) else 0.3
    if gans.startswith("less") and classifiers[-1].isdigit():
        return 0.1 if (int(gans[-1]) - int(classifiers[-1])) % 2 == 0 else 0.9
    if gans == "base":
        return 0.3
    if gans.startswith("hit"):
        return 0.5
    return 0.9 if in_loss else 0.3


def ask_claim(claim: str, rate: Rate, noise: float = 0.02, study: Study = STUDY) -> Answer:
    detections = make_detections(study, rate, lambda gans: noise)
    return ask_study(study, detections, make_quality(study, {}, {}), choose_claims(claim))[claim]


def get_wide_noise(gans: str) -> float:
    return 0.12 if gans in ("phi_1", "phi_2", "phi_3") else 0.01


LOUD = {f"phi_{power}": value for power, value in ((2, 60.0), (3, 70.0))}


def expect(gan: str, verdict: Verdict) -> dict[str, Verdict]:
    """Expect a verdict of every claim, but of the claims that are about the other GAN."""
    (other,) = SETTINGS.keys() - {gan}
    return {
        claim.id: Verdict.NOT_ASKED if str(claim.finding) in SETTINGS[other] else verdict
        for claim in FINDINGS.claims
    }


@pytest.mark.parametrize("gan", SETTINGS)
def test_every_claim_can_be_supported(gan: str) -> None:
    study = make_study(10, gan)
    detections = make_detections(study, tell_the_papers_story, get_wide_noise)
    detections["auc"] = 0.9
    quality = make_quality(study, fid=LOUD, entropy={"phi_2": 0.1, "phi_3": 0.0})
    answers = ask_study(study, detections, quality)
    found = {name: answer.verdict for name, answer in answers.items()}
    assert found == expect(gan, Verdict.SUPPORTED)


@pytest.mark.parametrize("gan", SETTINGS)
def test_every_claim_can_be_contradicted(gan: str) -> None:
    study = make_study(gan=gan)
    detections = make_detections(study, tell_the_opposite, lambda gans: 0.01)
    detections["auc"] = 0.3
    fid = {"fool_1": 40.0, "fool_2": 60.0, **{f"phi_{power}": 90.0 for power in (-2, -1)}}
    entropy = {"phi_-2": 0.0, "phi_-1": 0.0}
    answers = ask_study(study, detections, make_quality(study, fid=fid, entropy=entropy))
    found = {name: answer.verdict for name, answer in answers.items()}
    # generalisation and truncation are at one rate, so 11 is contradicted by no difference
    assert found == expect(gan, Verdict.CONTRADICTED)


def test_claim_of_one_architecture_is_asked_of_its_cells_alone() -> None:
    study = make_study(gan="stylegan2")
    detections, quality = make_detections(study, tell_the_papers_story), make_quality(study, {}, {})
    findings = choose_claims("1a", "2a", "2b", "5a", "5b", "9a")
    answers = ask_study(study, detections, quality, findings)
    assert (answers["2a"].left, answers["2a"].right) == (("n_2 on base",), ("n_1 on base",))
    assert (answers["2b"].left, answers["2b"].right) == (("i_2 on base",), ("i_1 on base",))
    assert answers["5a"].left == ("c_0 on fool_1",)
    assert answers["5b"].left == ("base", "fool_1")  # a baseline fools no other architecture
    assert answers["1a"].reason == "it is asked of DCGAN alone"
    recipes = {
        name: recipe.model_copy(update={"architecture": "mobilenet_v2"})
        for name, recipe in study.classifier_recipes.items()
    }
    other = study.model_copy(update={"classifier_recipes": recipes})
    answers = ask_study(other, detections, quality, findings)
    assert answers["5a"].reason == "it is asked of StyleGAN2 and ResNet-50 alone"
    assert answers["9a"].verdict is Verdict.SUPPORTED


@pytest.mark.parametrize(
    ("extractor", "column", "verdict"),
    [
        ("lenet", "fid_lenet_4k", Verdict.SUPPORTED),
        ("random_vgg", "frechet_random_vgg_4k", Verdict.UNDECIDED),
    ],
)
def test_margin_of_a_distance_decides_in_the_pilots_units_alone(
    extractor: str, column: str, verdict: Verdict
) -> None:
    evaluation = STUDY.evaluation.model_copy(update={"extractor": extractor})
    study = STUDY.model_copy(update={"evaluation": evaluation})
    quality = make_quality(study, {}, {}).rename(columns={"fid_lenet_4k": column})
    detections = make_detections(study, tell_the_papers_story)
    answers = ask_study(study, detections, quality, choose_claims("9a", "9e"))
    assert answers["9e"].verdict is verdict
    assert answers["9e"].effect.point < FINDINGS.margins["fid"]
    assert answers["9e"].measure == column.partition("_")[0]
    assert ("units of lenet" in (answers["9e"].reason or "")) == (extractor != "lenet")
    assert answers["9a"].verdict is Verdict.SUPPORTED  # a share has no units


@pytest.mark.parametrize(("num", "verdict"), [(2, Verdict.UNDECIDED), (12, Verdict.SUPPORTED)])
def test_few_instances_leave_undecided_what_many_decide(num: int, verdict: Verdict) -> None:
    assert ask_claim("10a", lambda *_: 0.3, 0.08, make_study(num)).verdict is verdict


def test_effect_smaller_than_the_threshold_is_named() -> None:
    def rate(gans: str, classifiers: str, in_loss: bool, classifier: int) -> float:
        return 0.93 if classifiers == "n_1" else 0.98

    answer = ask_claim("1c", rate, 0.003, make_study(10))
    assert 0 < answer.effect.low < answer.effect.high < FINDINGS.margins["detection_rate"]
    assert answer.verdict is Verdict.CONTRADICTED
    assert answer.reason == "there is an effect, smaller than the threshold"


def test_instances_that_are_all_equal_decide_nothing() -> None:
    answer = ask_claim("1a", lambda *_: 1.0, 0.0)
    assert answer.effect.low == answer.effect.high == answer.effect.point
    assert answer.verdict is Verdict.UNDECIDED
    assert "all instances are equal" in (answer.reason or "")


def test_claim_of_a_reading_that_the_study_does_not_name_is_not_asked() -> None:
    report = STUDY.report.model_copy(update={"truncation": None})
    answer = ask_claim("11", lambda *_: 0.5, study=STUDY.model_copy(update={"report": report}))
    assert answer.reason == "the study names no truncation"


def test_single_instances_have_no_verdict() -> None:
    detections = make_detections(STUDY, tell_the_papers_story)
    is_last = (detections["generator_instance"] == 5) & (detections["classifier_instance"] == 5)
    findings, quality = choose_claims("1a", "9a", "9b"), make_quality(STUDY, {}, {})
    for answer in ask_study(STUDY, detections[is_last], quality, findings).values():
        assert answer.verdict is Verdict.UNDECIDED
        assert str(answer.reason).startswith("there is no interval")
        assert math.isfinite(answer.effect.point)


def test_one_classifier_is_named_as_fixed() -> None:
    answer = ask_claim("3b", tell_the_papers_story)
    assert answer.effect.fixed == ("classifiers/c_0",)
    assert answer.num_instances["classifiers/c_0"] == 1
    assert answer.num_pairs == 4 * 6  # four phi of 1 and above, six generators each


def test_effect_is_the_mean_of_cell_means() -> None:
    detections = make_detections(STUDY, tell_the_papers_story, lambda gans: 0.05)
    held_out = detections[~detections["in_loss"] & ~detections["in_training"]]
    means = held_out.groupby(["generator_cohort", "classifier_cohort"])["detection_rate"].mean()
    quality = make_quality(STUDY, {}, {})
    answer = ask_study(STUDY, detections, quality, choose_claims("10b"))["10b"]
    two, one = ("less_2 c_0", "less_3 c_1", "fool_1 c_0"), ("less_2 c_1", "less_3 cless_2")
    left = np.mean([means[tuple(name.split())] for name in two[:2]])
    right = np.mean([means[tuple(name.split())] for name in (two[2], *one)])
    assert answer.effect.point == pytest.approx(left - right, abs=1e-12)


def test_clusters_of_noise_are_no_finding() -> None:
    noise = np.random.default_rng(4).random((8, 8))

    def rate(gans: str, classifiers: str, in_loss: bool, classifier: int) -> float:
        return float(noise[classifier, int(gans[-1])]) if gans.startswith("hit") else 0.5

    answer = ask_claim("8", rate, 0.0)
    assert answer.clusters is not None
    assert not answer.clusters.is_significant
    assert answer.verdict is Verdict.UNDECIDED


def test_claim_needs_the_claims_that_it_names() -> None:
    def rate(gans: str, classifiers: str, in_loss: bool, classifier: int) -> float:
        return 0.9 if (gans, classifiers) == ("base", "c_0") else 0.1

    findings = choose_claims("9b", "9c")
    answers = ask_study(STUDY, make_detections(STUDY, rate), make_quality(STUDY, {}, {}), findings)
    assert answers["9b"].verdict is Verdict.CONTRADICTED
    assert answers["9c"].verdict is Verdict.UNDECIDED
    assert answers["9c"].reason == "9b is not supported"


@pytest.mark.parametrize(
    ("low", "high", "direction", "verdict"),
    [
        (0.3, 0.4, "above", Verdict.SUPPORTED),
        (0.1, 0.2, "above", Verdict.CONTRADICTED),
        (0.1, 0.3, "above", Verdict.UNDECIDED),
        (0.2, 0.3, "above", Verdict.UNDECIDED),  # it touches the threshold
        (0.1, 0.19, "below", Verdict.SUPPORTED),
        (0.2, 0.4, "below", Verdict.CONTRADICTED),
        (0.1, 0.3, "below", Verdict.UNDECIDED),
        (0.3, 0.4, "differs", Verdict.SUPPORTED),
        (-0.4, -0.3, "differs", Verdict.SUPPORTED),
        (-0.1, 0.1, "differs", Verdict.CONTRADICTED),
        (-0.3, 0.1, "differs", Verdict.UNDECIDED),
        (-0.3, 0.3, "differs", Verdict.UNDECIDED),
    ],
)
def test_verdict_of_an_interval(low: float, high: float, direction: str, verdict: Verdict) -> None:
    assert decide(Interval((low + high) / 2, low, high, 0, ()), direction, 0.2) is verdict


def test_json_is_whole() -> None:
    detections, quality = make_detections(STUDY, tell_the_papers_story), make_quality(STUDY, {}, {})
    findings = choose_claims("1a", "4a", "6", "9e").model_copy(update={"num_resamples": 200})
    results = Results(Path(), STUDY, detections, quality, 0)
    claim, *_, last = make_verdicts(results, findings)["claims"]
    assert claim["study"]["verdict"] == "supported"
    assert claim["threshold_words"] == "above 0.616 (0.5 + 1 x margin 0.116)"
    assert claim["study"]["effect_words"] == (
        "detection_rate: mean over 1 cell of the mean over held-out pairs"
    )
    assert claim["source"].startswith("detections.csv: column detection_rate, rows with in_loss")
    assert last["paper"]["low"] is None
    assert last["paper"]["effect"] == pytest.approx(0.59)
