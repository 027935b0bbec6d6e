"""Anchors of the paper's regime: what is compared with their bounds, and what they make void."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
from findings_tools import FINDINGS, Story, Tables, make_results, make_study, make_tables
from test_findings_judge import PAPER, tell_the_papers_story

from knowledge_gaps.findings.anchors import mark_anchors
from knowledge_gaps.findings.form import make_verdicts
from knowledge_gaps.findings.judge import Verdict, ask_all
from knowledge_gaps.findings.schema import Anchor
from knowledge_gaps.findings.sources import list_study_cells

STUDY = make_study()
SETTING = STUDY.data.name, STUDY.evaluation.extractor
MARKS = {anchor.id for anchor in FINDINGS.anchors}


def mark(story: Story, setting: tuple[str, str] = SETTING) -> dict[str, bool | None]:
    source = partial(list_study_cells, make_results(STUDY, make_tables(STUDY, story)))
    return {each.anchor.id: each.is_reached for each in mark_anchors(FINDINGS, source, setting)}


def tell_less_of_one(gans: str, classifiers: str, classifier: int) -> float:
    if (gans, classifiers) == ("base", "n_1"):
        return 0.1
    return tell_the_papers_story(gans, classifiers, classifier)


def test_a_study_in_the_regime_reaches_every_anchor() -> None:
    assert mark(PAPER) == dict.fromkeys(MARKS, True)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"loss": 1.36}, {"c-loss"}),
        ({"fid": {"base": 16.0}}, {"c-distance"}),
        ({"entropy": {"phi_-1": 0.5}}, {"b"}),
        ({"rate": tell_less_of_one}, {"a-one"}),
        ({"rate": lambda *_: 0.6}, {"a-more"}),
        ({"rate": lambda *_: 0.95}, {"a-one", "a-more"}),
        ({"fid": {"fool_1": 99.0}, "judge_auc": 1.0}, set()),  # not of baselines
    ],
)
def test_an_anchor_is_missed_by_what_it_is_about(
    changes: Mapping[str, object], missed: set[str]
) -> None:
    story = PAPER._replace(**changes)  # type: ignore[arg-type]
    assert {name for name, is_reached in mark(story).items() if is_reached is False} == missed


def test_the_loss_is_of_the_last_tenth_of_each_training() -> None:
    source = partial(list_study_cells, make_results(STUDY, make_tables(STUDY, PAPER)))
    effects = {each.anchor.id: each.effect for each in mark_anchors(FINDINGS, source, SETTING)}
    loss = effects["c-loss"]
    assert loss.point == pytest.approx(1.0, abs=0.02)  # and not the 9 of earlier steps
    assert loss.low < loss.point < loss.high
    assert loss.degrees == STUDY.study.chains - 1


def test_a_missed_anchor_voids_claims_about_fooling_alone() -> None:
    results = make_results(STUDY, make_tables(STUDY, PAPER._replace(loss=1.36)))
    verdicts = make_verdicts(results, FINDINGS)
    assert [each["id"] for each in verdicts["anchors"] if not each["is_reached"]] == ["c-loss"]
    fooling = {claim.id for claim in FINDINGS.claims if claim.fooled}
    for claim in verdicts["claims"]:
        found = claim["study"]
        if found["verdict"] != Verdict.NOT_ASKED:
            assert (found["verdict"] == Verdict.VOID) == (claim["id"] in fooling), claim["id"]
            if found["verdict"] == Verdict.VOID:
                assert found["reason"] == "regime not reached: c-loss"
                assert found["low"] is not None  # the numbers stay


def test_another_setting_has_no_anchors() -> None:
    found = mark(PAPER._replace(loss=1.36), ("fashion-mnist", "lenet"))
    assert found == dict.fromkeys(MARKS)
    results = make_results(STUDY, make_tables(STUDY, PAPER))
    source = partial(list_study_cells, results)
    marks = mark_anchors(FINDINGS, source, ("fashion-mnist", "lenet"))
    answers = ask_all(FINDINGS, source, SETTING, marks)
    assert answers["3a"].verdict is Verdict.SUPPORTED


def test_anchor_of_a_reading_that_the_study_lacks_is_not_asked() -> None:
    report = STUDY.report.model_copy(update={"generalisation": []})
    study = STUDY.model_copy(update={"report": report})
    tables = make_tables(study, PAPER)
    source = partial(list_study_cells, make_results(study, Tables(*tables)))
    found = {each.anchor.id: each.is_reached for each in mark_anchors(FINDINGS, source, SETTING)}
    assert {name for name, is_reached in found.items() if is_reached is None} == {
        "a-one",
        "a-more",
        "a-real",
    }


def test_anchor_without_a_bound_is_refused() -> None:
    content = FINDINGS.anchors[0].model_dump() | {"at_least": None, "at_most": None}
    with pytest.raises(ValueError, match="at_least: nothing found, it or at_most is needed"):
        Anchor.model_validate(content)


def test_no_anchor_is_about_what_the_claims_ask() -> None:
    """None is of held-out classifiers on GANs that fool one, so that no one can choose by them."""
    for anchor in FINDINGS.anchors:
        for side in anchor.sides:
            assert side.pairs is None or side.reading == "generalisation", anchor.id
