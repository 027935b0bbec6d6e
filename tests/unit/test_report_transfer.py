"""Readings of transfer and of variance components, from tables whose numbers are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from findings_tools import FINDINGS, choose_claims

from fabrication import FOOLING, make_study
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.findings.judge import Verdict, ask_all
from knowledge_gaps.findings.sources import list_study_cells
from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.transfers import measure_shifts
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import list_classifiers, list_generators, list_members

REAL, OWN = 4.0, -4.0  # medians, so that a classifier's separation is 8
# median of fooling GANs by cohort: in the loss of c, and by held-out classifiers of c in each chain
MEDIANS = {
    "fool_0": (4.0, (2.0, 0.0, -2.0)),  # shifts 1, and 0.75, 0.5, 0.25
    "fool_2": (0.0, (-2.0, -2.0, -2.0)),  # shifts 0.5, and 0.25
    "idle_0": (4.0, (4.0, 4.0, 4.0)),  # phi is 0: no transfer is asked of it
}
STUDY = make_study({**FOOLING, "report": {"iterations": [{"gans": "base", "classifiers": "c"}]}})
NAN = math.nan
Score = Callable[[str, Instance, str, Instance], float]


def make_detections(study: Study, score: Score) -> pd.DataFrame:
    """Make the table of a study, with a median of every pair."""
    rows = []
    for (gans, generator), (name, classifier) in product(
        list_generators(study), list_classifiers(study)
    ):
        if generator.chain == classifier.chain:
            fooled = list_members(study, study.gans[gans].fools)
            seen = list_members(study, study.classifiers[name].detects)
            flags = (
                (f"classifiers/{name}", classifier.number) in fooled,
                (f"gans/{gans}", generator.number) in seen,
            )
            median = score(gans, generator, name, classifier)
            rows.append((gans, *generator, name, *classifier, *flags, median))
    columns = "generator_cohort generator_chain generator_instance classifier_cohort"
    columns += " classifier_chain classifier_instance in_loss in_training median_score"
    table = pd.DataFrame(rows, columns=columns.split())
    others = {**dict.fromkeys(MEASURES, 0.5), "c2st_log10_p": -1.0, "num_images": 1000}
    return table.assign(**others, median_score_real=REAL)


def score_by_hand(gans: str, generator: Instance, name: str, classifier: Instance) -> float:
    """Let classifier 1 have other scores, which no shift depends on: 2 s + 1."""
    if gans == "base":
        # base/0 and base/2 are in the pool; of the others alone the separation is known
        median = OWN - 3 if generator.number in (0, 2) else OWN + 2 * (generator.number - 2)
    else:
        in_loss, held_out = MEDIANS[gans]
        is_in_loss = name == "c" and classifier.number == {"fool_2": 2}.get(gans, 0)
        median = in_loss if is_in_loss else held_out[generator.chain]
    return 2 * median + 1 if classifier.number == 1 else median


def make_results(score: Score = score_by_hand, study: Study = STUDY) -> Results:
    detections = make_detections(study, score)
    is_other = detections["classifier_instance"] == 1
    if score is score_by_hand:
        detections.loc[is_other, "median_score_real"] = 2 * REAL + 1
    return Results(Path(), study, detections, pd.DataFrame(), 0)


def test_shift_is_in_units_of_the_separation_from_held_out_generators() -> None:
    shifted = measure_shifts(STUDY, make_results().detections)
    rows = shifted.set_index(["generator_cohort", "classifier_cohort", "in_loss"]).sort_index()
    assert set(rows.loc[("fool_0", "c", True), "shift"]) == {1.0}
    assert set(rows.loc[("fool_2", "c", True), "shift"]) == {0.5}
    assert set(rows.loc[("fool_0", "c", False), "shift"]) == {0.75, 0.5, 0.25}
    # base/1 and base/3 have medians of 2 above and below OWN
    held_out = shifted[(shifted["generator_cohort"] == "base") & ~shifted["in_training"]]
    assert sorted(set(held_out["shift"])) == pytest.approx([-0.25, 0.25])


def test_transfer_by_hand() -> None:
    results = make_results()
    assert list(results.transfers) == [("fool_0", "c"), ("fool_2", "c")]
    assert results.transfers["fool_0", "c"] == pytest.approx([0.75, 0.5, 0.25])
    assert results.transfers["fool_2", "c"] == pytest.approx([0.5, 0.5, 0.5])
    first, second = results.read("transfer")
    cell = first["held_out"]
    assert (cell["generator_cohort"], cell["classifier_cohort"]) == ("fool_0", "c")
    assert first["in_loss"]["num_pairs"] == 9
    half = 4.302652730 * 0.25 / math.sqrt(3)  # Student's t of two degrees of freedom
    ends = ("", "_low", "_high", "_degrees")
    expected = [0.5, 0.5 - half, 0.5 + half, 2]
    assert [cell[f"transfer{end}"] for end in ends] == pytest.approx(expected)
    # chains that agree have no spread, and other cells have no transfer
    found = [second["held_out"][f"transfer{end}"] for end in ends]
    assert found == pytest.approx([0.5, NAN, NAN, NAN], nan_ok=True)
    assert np.isnan(first["in_loss"]["transfer"])
    metrics = list_readings()["transfer"].make_metrics(results, [first, second])
    assert metrics == {"transfer": pytest.approx({"fool_0": 0.5, "fool_2": 0.5})}


def test_transfer_that_is_missing_in_a_chain_has_its_own_degrees_of_freedom() -> None:
    def score(gans: str, generator: Instance, name: str, classifier: Instance) -> float:
        median = score_by_hand(gans, generator, name, Instance(classifier.chain, 0))
        if (gans, generator.chain) == ("fool_0", 1) and classifier.number == 0:
            return OWN  # nothing is fooled in this chain
        is_in_loss = classifier.number == (2 if gans == "fool_2" else 0)
        return median if gans == "base" or is_in_loss else MEDIANS[gans][1][generator.chain]

    cell = make_results(score).read("transfer")[0]["held_out"]
    assert (cell["transfer_degrees"], cell["detection_rate_degrees"]) == (1, 2)
    assert cell["transfer"] == pytest.approx((0.75 + 0.25) / 2)


def test_claim_on_transfer() -> None:
    """Its cells are those of held-out pairs, and its numbers one of each chain."""
    study = make_study({**FOOLING, "report": {"mutual_fooling": [], "phi_sweep": ["fool_0"]}})
    (claim,) = choose_claims("3a").claims
    selection = claim.left.model_copy(update={"where": {"phi": [1.0]}})
    threshold = claim.threshold.model_copy(update={"at": 1.2, "margins": 0.0})
    update = {"measure": "transfer", "left": selection, "threshold": threshold, "fooled": None}
    claims = [
        claim.model_copy(update={**update, "id": direction, "direction": direction})
        for direction in ("above", "below")
    ]
    findings = FINDINGS.model_copy(update={"claims": claims})
    answers = ask_all(findings, partial(list_study_cells, make_results(study=study)))
    assert answers["below"].verdict is Verdict.SUPPORTED  # 0.5 [-0.12, 1.12]
    assert answers["above"].verdict is Verdict.CONTRADICTED
    assert answers["below"].effect.point == pytest.approx(0.5)
    assert answers["below"].num == 3 * 3 * 2  # pairs of all chains


def test_study_that_fools_nothing_has_no_transfer() -> None:
    changes = {f"gans.{name}.phi": 0.0 for name in ("fool_0", "fool_2")}
    study = make_study({**FOOLING, "report": {}, **changes})
    assert not list_readings()["transfer"].is_asked(study)
    assert make_results(study=study).transfers == {}
    assert not list_readings()["components"].is_asked(study)


def test_components_are_of_the_held_out_pairs_of_the_iterations() -> None:
    """Rates that add up: a part of the chain, of the generator and of the classifier."""
    parts = {
        "generator_chain": (0.1, 0.3, 0.2),
        "generator_instance": (0.5, 0.04, 0.5, 0.0),  # base/0 and base/2 are in the pool
        "classifier_instance": (0.0, 0.1, 0.0),
    }
    results = make_results()
    table = results.detections
    effects = (table[name].map(dict(enumerate(values))) for name, values in parts.items())
    table["detection_rate"] = 0.3 + sum(effects)
    (row,) = results.read("components")
    assert (row["classifier_cohort"], row["generator_cohort"]) == ("c", "base")
    found = row["detection_rate"]
    generator, classifier = np.var([0.04, 0.0], ddof=1), np.var([0.0, 0.1, 0.0], ddof=1)
    assert [found.generator, found.classifier] == pytest.approx([generator, classifier])
    assert found.pair == pytest.approx(0, abs=1e-12)
    # chains have the same parts here, so pairs of two chains differ by less than independent ones
    same = generator / 2 + classifier / 3
    assert found.chain == pytest.approx(np.var([0.1, 0.3, 0.2], ddof=1) - same)
    assert row["auc"].chain == pytest.approx(0, abs=1e-12)
