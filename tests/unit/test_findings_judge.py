"""Verdicts on made-up studies with known effects, and what a selection takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
from findings_tools import (
    FINDINGS,
    Rate,
    Story,
    Tables,
    ask_study,
    choose_claims,
    make_results,
    make_study,
    make_tables,
    mix,
)

from knowledge_gaps.findings.form import make_verdicts
from knowledge_gaps.findings.judge import Answer, Verdict, decide
from knowledge_gaps.readings import mutual_fooling
from knowledge_gaps.statistics.chains import Interval
from knowledge_gaps.statistics.clusters import find_clusters
from knowledge_gaps.study import Study

STUDY = make_study()
ITERATIONS = ["base", "fool_1", "fool_2", "fool_3", "fool_4"]
OF_DCGAN, OF_STYLEGAN2 = (1, 3, 4), (2, 5)  # findings that are asked of one GAN alone
OF_ONE = [claim for claim in FINDINGS.claims if claim.finding in OF_DCGAN + OF_STYLEGAN2]
# by GAN, claims to ask it: those of either GAN need no second study
SETTINGS = {"dcgan": FINDINGS, "stylegan2": FINDINGS.model_copy(update={"claims": OF_ONE})}
MARGIN, FID_MARGIN = FINDINGS.margins["detection_rate"], FINDINGS.margins["fid"]
FOOLED = [claim.id for claim in FINDINGS.claims if claim.fooled is not None]


@pytest.fixture(autouse=True)
def _permute_less(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = partial(find_clusters, num_permutations=100)
    monkeypatch.setattr(mutual_fooling, "find_clusters", fewer)


def tell_the_papers_story(gans: str, classifiers: str, classifier: int) -> float:
    """Return held-out rates that every claim is true of."""
    row = int(classifiers[-1]) if classifiers[-1].isdigit() else -1
    if gans.startswith("phi"):
        return 0.75
    if gans.startswith("multi"):
        return {"multi_1": 0.6, "multi_3": 0.4, "multi_8": 0.2}[gans]
    if gans.startswith("hit"):  # two clusters, 0 to 3 and 4 to 7
        return 0.1 if (int(gans[-1]) < 4) == (classifier < 4) else 0.9
    if gans == "base" and classifiers[:2] != "c_":
        return {-1: 0.6, 1: 0.75}.get(row, 0.97)  # psi, and one generator
    if gans in ("fool_i", "fool_m") or classifiers[:2] in ("i_", "m_"):
        is_same = classifiers[0] == gans[-1]
        return 0.1 if is_same else 0.8
    if gans.startswith("less"):
        return 0.9 if (int(gans[-1]) - row) % 2 == 0 else 0.1
    if gans.startswith("memory"):
        return 0.9 if int(gans[-1]) - row == 3 else 0.1
    if gans in ITERATIONS and classifiers[:2] == "c_":
        lag = ITERATIONS.index(gans) - row
        return 0.05 if lag > 0 else 0.98 - 0.075 * row if lag == 0 else 0.8
    return 0.5


def tell_the_opposite(gans: str, classifiers: str, classifier: int) -> float:
    """Return held-out rates that no claim is true of."""
    if gans in ITERATIONS and classifiers[:2] == "c_":
        return 0.9 if ITERATIONS.index(gans) > int(classifiers[-1]) else 0.3
    if gans.startswith("less") and classifiers[-1].isdigit():
        return 0.1 if (int(gans[-1]) - int(classifiers[-1])) % 2 == 0 else 0.9
    return 0.5 if gans.startswith("hit") else 0.3


def get_wide_noise(gans: str) -> float:
    return 0.12 if gans in ("phi_1", "phi_2", "phi_4") else 0.01


PAPER = Story(
    tell_the_papers_story,
    get_wide_noise,
    fid={"phi_2": 60.0, "phi_4": 70.0},
    entropy={"phi_2": 0.1, "phi_4": 0.0},
)
OPPOSITE = Story(
    tell_the_opposite,
    auc=0.3,
    fid={"fool_1": 40.0, "fool_2": 60.0, "phi_-2": 90.0, "phi_-1": 90.0},
    entropy={"phi_-2": 0.0, "phi_-1": 0.0},
    transfer=0.2,
    judge_auc=0.95,
)
SEEN, RANKED = PAPER._replace(rate_in_loss=0.9), PAPER._replace(auc_in_loss=0.95)  # nothing fooled


def ask_claim(claim: str, rate: Rate, noise: float = 0.02, study: Study = STUDY) -> Answer:
    tables = make_tables(study, Story(rate, lambda gans: noise), chain_noise=noise)
    return ask_study(study, tables, choose_claims(claim))[claim]


def expect(gan: str, verdict: Verdict, others: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Expect a verdict of every claim but of some, and but of those about the other GAN."""
    claims, left_out = SETTINGS[gan].claims, OF_STYLEGAN2 if gan == "dcgan" else OF_DCGAN
    return {
        claim.id: others.get(claim.id, verdict)
        if claim.finding not in left_out
        else Verdict.NOT_ASKED
        for claim in claims
    }


def get_verdicts(answers: Mapping[str, Answer]) -> dict[str, Verdict]:
    return {name: answer.verdict for name, answer in answers.items()}


@pytest.mark.parametrize("gan", SETTINGS)
def test_every_claim_can_be_supported_contradicted_and_undecided(gan: str) -> None:
    study = make_study(gan=gan)
    paper, opposite = make_tables(study, PAPER), make_tables(study, OPPOSITE)
    # both fool the classifier in the loss, and held-out ones less, which is all that these claim
    others = dict.fromkeys(("3b", "3e"), Verdict.SUPPORTED)
    found = get_verdicts(ask_study(study, paper, SETTINGS[gan]))
    assert found == expect(gan, Verdict.SUPPORTED, others)
    found = get_verdicts(ask_study(study, opposite, SETTINGS[gan]))
    assert found == expect(gan, Verdict.CONTRADICTED, others)
    found = get_verdicts(ask_study(study, mix(paper, opposite, 3), SETTINGS[gan]))
    assert found == expect(gan, Verdict.UNDECIDED, others)


@pytest.mark.parametrize("gan", SETTINGS)
def test_claims_are_void_where_generators_do_not_fool_the_classifier_in_their_loss(
    gan: str,
) -> None:
    study = make_study(gan=gan)
    void = dict.fromkeys(FOOLED, Verdict.VOID)
    answers = ask_study(study, make_tables(study, SEEN), SETTINGS[gan])
    expected = expect(gan, Verdict.SUPPORTED, {**void, "3b": Verdict.CONTRADICTED})
    assert get_verdicts(answers) == expected
    claim = "3a" if gan == "dcgan" else "5b"
    name, _, reason = (answers[claim].reason or "").partition(": ")
    assert name in answers[claim].left
    assert reason == (
        "the classifier in the loss detects 0.900 with an AUC of 0.600; "
        "at most 0.1 and 0.8 are needed"
    )
    assert math.isfinite(answers[claim].effect.low)  # the numbers stay
    answers = ask_study(study, make_tables(study, RANKED), SETTINGS[gan])
    assert get_verdicts(answers) == expect(gan, Verdict.SUPPORTED, void)


def test_classifiers_in_the_loss_can_leave_their_own_claim_undecided() -> None:
    tables = mix(make_tables(STUDY, PAPER), make_tables(STUDY, SEEN), 3)
    found = ask_study(STUDY, tables, choose_claims("3a", "3b"))
    assert get_verdicts(found) == {"3a": Verdict.VOID, "3b": Verdict.UNDECIDED}
    assert found["3a"].in_loss == pytest.approx((0.6 * 0.05 + 0.4 * 0.9, 0.6))


def test_one_cohort_that_fools_nothing_voids_the_claims_about_it_alone() -> None:
    tables = make_tables(STUDY, PAPER)
    detections = tables.detections.copy()
    is_one = (detections["generator_cohort"] == "fool_4") & detections["in_loss"]
    detections.loc[is_one, "detection_rate"] = 0.2
    # by the rate of one, and by the area of another one
    is_hit = (detections["generator_cohort"] == "hit_5") & detections["in_loss"]
    detections.loc[is_hit, "auc"] = 0.81
    found = ask_study(STUDY, Tables(detections, tables.quality))
    void = {"9a-5", "9b-5", "9c-5", "9d-5", "9e-5", "8"}
    assert {name for name, answer in found.items() if answer.verdict is Verdict.VOID} == void
    assert found["8"].in_loss == pytest.approx((0.05, 0.81))


def test_equality_is_of_every_cell_within_the_margin() -> None:
    claims, tables = choose_claims("9e", "9e-5"), make_tables(STUDY, PAPER)
    spread = (-0.5, -0.25, 0.0, 0.25, 0.5)  # of chains: a 90 % interval is 0.38 to either side

    def ask(**differences: float) -> dict[str, Answer]:
        gans, chain = tables.quality["generator_cohort"], tables.quality["generator_chain"]
        distance = 10 + gans.map(differences).fillna(0.0)
        distance += chain.map(dict(enumerate(spread))).where(gans != "base", 0.0)
        quality = tables.quality.assign(fid_lenet_4k=distance)
        return ask_study(STUDY, Tables(tables.detections, quality), claims)

    inside, outside = FID_MARGIN - 0.5, FID_MARGIN + 0.5
    found = ask(fool_1=inside, fool_2=-inside)
    assert get_verdicts(found) == dict.fromkeys(found, Verdict.SUPPORTED)
    effect = found["9e"].effect
    assert abs(effect.point) == pytest.approx(inside)
    half = 2.131846786 * np.std(spread, ddof=1) / math.sqrt(5)  # Student's t at 95 %, one-sided
    assert (effect.high - effect.low) / 2 == pytest.approx(half)
    for distance in (FID_MARGIN, FID_MARGIN - 0.3, -FID_MARGIN - 0.3):
        found = ask(fool_1=distance)
        assert get_verdicts(found) == dict.fromkeys(found, Verdict.UNDECIDED)
    for distance in (outside, -outside):  # better by more than a margin is not equal either
        found = ask(fool_4=distance)
        assert found["9e"].verdict is Verdict.SUPPORTED  # it is about the first three iterations
        assert found["9e-5"].verdict is Verdict.CONTRADICTED
        assert found["9e-5"].effect.point == pytest.approx(distance)


def test_cohort_more_in_a_sweep_changes_no_verdict() -> None:
    tables = make_tables(STUDY, PAPER)
    full, report = ask_study(STUDY, tables), STUDY.report
    fewer = {
        "iterations": report.iterations[:3],
        "phi_sweep": [name for name in report.phi_sweep if name != "phi_0"],
        "multi_instance": ["multi_1", "multi_8"],
        "generalisation": [
            sweep.model_copy(update={"classifiers": ["n_1", "n_2", "n_3"]})
            for sweep in report.generalisation
        ],
    }
    study = STUDY.model_copy(update={"report": report.model_copy(update=fewer)})
    answers = ask_study(study, tables)
    not_asked = {name for name in full if answers[name].verdict is Verdict.NOT_ASKED}
    of_stylegan2 = {name for name in full if full[name].verdict is Verdict.NOT_ASKED}
    # what names an iteration, a phi or a number of classifiers that is no longer there
    gone = {"9a-5", "9b-5", "9c-5", "9d-5", "9e-5", "3a", "3b", "4b"}
    assert not_asked - of_stylegan2 == gone
    for name in full.keys() - not_asked:
        assert answers[name].effect == full[name].effect, name
        assert answers[name].verdict is full[name].verdict, name


def test_claim_of_one_architecture_is_asked_of_its_cells_alone() -> None:
    study = make_study(gan="stylegan2")
    tables = make_tables(study, PAPER)
    findings = choose_claims("1a", "2a", "2b", "5a", "5b", "9a")
    answers = ask_study(study, tables, findings)
    assert (answers["2a"].left, answers["2a"].right) == (("n_6 on base",), ("n_1 on base",))
    assert (answers["2b"].left, answers["2b"].right) == (("i_6 on base",), ("i_1 on base",))
    assert answers["5a"].left == ("c_0 on fool_1",)
    # a baseline fools no other architecture
    assert (answers["5b"].left, answers["5b"].right) == (("fool_1",), ("base",))
    assert answers["1a"].reason == "it is asked of DCGAN alone"
    recipes = {
        name: recipe.model_copy(update={"architecture": "mobilenet_v2"})
        for name, recipe in study.classifier_recipes.items()
    }
    other = study.model_copy(update={"classifier_recipes": recipes})
    answers = ask_study(other, tables, findings)
    assert answers["5a"].reason == "it is asked of StyleGAN2 and ResNet-50 alone"
    assert answers["9a"].verdict is Verdict.SUPPORTED


@pytest.mark.parametrize(
    ("dataset", "extractor", "column", "verdict"),
    [
        ("mnist", "lenet", "fid_lenet_4k", Verdict.SUPPORTED),
        ("fashion-mnist", "lenet", "fid_lenet_4k", Verdict.VOID),
        ("mnist", "random_vgg", "frechet_random_vgg_4k", Verdict.VOID),
    ],
)
def test_margin_of_a_distance_decides_in_the_pilots_units_alone(
    dataset: str, extractor: str, column: str, verdict: Verdict
) -> None:
    evaluation = STUDY.evaluation.model_copy(update={"extractor": extractor})
    data = STUDY.data.model_copy(update={"name": dataset})
    study = STUDY.model_copy(update={"evaluation": evaluation, "data": data})
    tables = make_tables(study, PAPER)
    quality = tables.quality.rename(columns={"fid_lenet_4k": column})
    answers = ask_study(study, Tables(tables.detections, quality), choose_claims("9a", "9e"))
    assert answers["9e"].verdict is verdict
    assert abs(answers["9e"].effect.point) < FID_MARGIN
    assert answers["9e"].measure == column.partition("_")[0]
    words = None if verdict is Verdict.SUPPORTED else "the margin is of mnist in lenet features"
    assert answers["9e"].reason == words
    assert answers["9a"].verdict is Verdict.SUPPORTED  # a share has no units


def test_few_chains_leave_undecided_what_many_decide() -> None:
    def rate(gans: str, classifiers: str, classifier: int) -> float:
        return 0.25

    for num, verdict in ((1, Verdict.UNDECIDED), (2, Verdict.UNDECIDED), (8, Verdict.SUPPORTED)):
        answer = ask_claim("10a", rate, 0.08, make_study(num))
        assert answer.verdict is verdict, num
        assert answer.effect.num_chains == num


def test_effect_smaller_than_the_threshold_is_named() -> None:
    def rate(gans: str, classifiers: str, classifier: int) -> float:
        return 0.93 if classifiers == "n_1" else 0.98

    answer = ask_claim("1c", rate, 0.003)
    assert 0 < answer.effect.low < answer.effect.high < MARGIN
    assert answer.verdict is Verdict.CONTRADICTED
    assert answer.reason == "there is an effect, smaller than the threshold"


def test_chains_that_are_all_equal_decide_no_distance() -> None:
    tables = make_tables(STUDY, PAPER)
    quality = tables.quality.assign(fid_lenet_4k=10.0)
    answer = ask_study(STUDY, Tables(tables.detections, quality), choose_claims("9e"))["9e"]
    assert answer.effect.point == 0
    assert math.isnan(answer.effect.low)
    assert answer.verdict is Verdict.UNDECIDED
    assert answer.reason == "there is no interval: no spread over chains"


def test_one_chain_decides_nothing() -> None:
    study = make_study(chains=1)
    answers = ask_study(study, make_tables(study, PAPER))
    asked = {name: x for name, x in answers.items() if x.verdict is not Verdict.NOT_ASKED}
    assert get_verdicts(asked) == dict.fromkeys(asked, Verdict.UNDECIDED)
    for answer in asked.values():
        assert answer.reason == "there is no interval: no spread over chains"
        assert math.isfinite(answer.effect.point)
        assert math.isnan(answer.effect.degrees)


def test_claim_of_a_reading_that_the_study_does_not_name_is_not_asked() -> None:
    report = STUDY.report.model_copy(update={"truncation": None})
    study = STUDY.model_copy(update={"report": report})
    answer = ask_claim("11", tell_the_papers_story, study=study)
    assert answer.reason == "the study names no truncation"
    report = STUDY.report.model_copy(update={"memory": STUDY.report.memory[:4]})
    study = STUDY.model_copy(update={"report": report})
    answer = ask_claim("10d", tell_the_papers_story, study=study)
    assert answer.reason == "memory: column 4 is missing of column 3, 4; lag 3; held_out pairs"


def test_effect_is_the_mean_over_chains_of_means_of_cells() -> None:
    """With the interval of scipy, over the effects of the chains."""
    tables = make_tables(STUDY, PAPER, chain_noise=0.05)
    detections = tables.detections
    held_out = detections[~detections["in_loss"] & ~detections["in_training"]]
    names = ["generator_chain", "generator_cohort", "classifier_cohort"]
    means = held_out.groupby(names)["detection_rate"].mean()
    even = ("less_2 c_0", "less_3 c_1", "less_4 cless_2", "less_4 c_0")
    odd = ("less_2 c_1", "less_3 cless_2", "less_3 c_0", "less_4 cless_3", "less_4 c_1")
    effects = np.array(
        [
            np.mean([means[(chain, *name.split())] for name in even])
            - np.mean([means[(chain, *name.split())] for name in odd])
            for chain in range(5)
        ]
    )
    effect = ask_study(STUDY, tables, choose_claims("10c"))["10c"].effect
    assert effect.point == pytest.approx(effects.mean(), abs=1e-12)
    half = 2.776445105 * effects.std(ddof=1) / math.sqrt(5)  # Student's t, four degrees
    assert (effect.low, effect.high) == pytest.approx((effect.point - half, effect.point + half))
    assert (effect.degrees, effect.num_chains) == (4, 5)


def test_chain_without_a_number_is_left_out_and_counted() -> None:
    tables = make_tables(STUDY, PAPER)
    detections = tables.detections.copy()
    is_lost = (detections["generator_chain"] == 2) & (detections["classifier_cohort"] == "n_1")
    detections.loc[is_lost, "detection_rate"] = math.nan
    answer = ask_study(STUDY, Tables(detections, tables.quality), choose_claims("1c"))["1c"]
    assert (answer.effect.num_chains, answer.effect.num_missing) == (4, 1)
    assert answer.effect.degrees == 3
    assert answer.verdict is Verdict.SUPPORTED


def test_clusters_of_noise_are_no_finding() -> None:
    noise = np.random.default_rng(4).random((10, 8))

    def rate(gans: str, classifiers: str, classifier: int) -> float:
        return float(noise[classifier, int(gans[-1])]) if gans.startswith("hit") else 0.5

    answer = ask_claim("8", rate, 0.001)
    assert answer.effect.low > MARGIN  # of clusters that were found in the same matrix
    assert answer.p_value > 0.05
    assert answer.verdict is Verdict.UNDECIDED
    assert "GANs permuted at random are divided as well (p = " in (answer.reason or "")


def test_claim_needs_the_claims_that_it_names() -> None:
    def rate(gans: str, classifiers: str, classifier: int) -> float:
        return 0.9 if (gans, classifiers) == ("base", "c_0") else 0.1

    answers = ask_study(STUDY, make_tables(STUDY, Story(rate)), choose_claims("9b", "9c"))
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
        (math.nan, math.nan, "above", Verdict.UNDECIDED),
        (math.nan, math.nan, "below", Verdict.UNDECIDED),
        (math.nan, math.nan, "differs", Verdict.UNDECIDED),
    ],
)
def test_verdict_of_an_interval(low: float, high: float, direction: str, verdict: Verdict) -> None:
    assert decide(Interval((low + high) / 2, low, high), direction, 0.2) is verdict


def test_json_is_whole() -> None:
    findings = choose_claims("1a", "4a", "6", "8", "9e")
    results = make_results(STUDY, make_tables(STUDY, PAPER))
    verdicts = make_verdicts(results, findings)
    claim, *_, clusters, last = verdicts["claims"]
    assert (verdicts["num_chains"], verdicts["fooled"]) == (5, {"detection_rate": 0.1, "auc": 0.8})
    assert claim["study"]["verdict"] == "supported"
    assert claim["threshold_words"] == "above 0.610 (0.5 + 1 x margin 0.110)"
    assert claim["study"]["effect_words"] == (
        "detection_rate: mean over 1 cell of the mean over held-out pairs"
    )
    assert claim["study"]["protocol"] == (
        "95% interval over 5 chains, Student's t with 4 degrees of freedom"
    )
    assert claim["study"]["num"] == 5 * 6 * 3  # chains, held-out generators, classifiers
    assert claim["study"]["in_loss"] is None
    assert claim["source"].startswith("detections.csv: column detection_rate, rows with in_loss")
    assert clusters["study"]["p_value"] < 0.05
    assert clusters["paper"]["protocol"] == "table B: single values, no interval"
    assert last["study"]["protocol"].startswith("90% interval over 5 chains")
    assert last["study"]["in_loss"] == {"detection_rate": 0.05, "auc": 0.6}
    assert last["study"]["effect_words"] == (
        "fid: of 2 cells the one that differs most, the mean over instances, "
        "less the mean over 1 cell of the mean over instances"
    )
    assert last["threshold_words"].startswith("differs from 0 by less than 3.353")
    assert last["paper"]["low"] is None
    assert last["paper"]["effect"] == pytest.approx(-0.36)
