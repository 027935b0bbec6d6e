"""The reading of perturbations.csv: means, verdicts, section, figure and metrics."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fabrication import fabricate_root, make_study
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.cohorts import list_perturbed_pairs
from knowledge_gaps.readings.perturbations import (
    draw_areas,
    read_cohort,
    read_perturbations,
)
from knowledge_gaps.report.build import build_report
from knowledge_gaps.study.graph import list_members

PERTURBATIONS = ("none", "jpeg", "blur", "noise", "levels")
COHORTS = ("fool_all_1", "memoryless_2", "phi_1e-2", "phi_1e4")
# area under the ROC curve of held-out classifiers: unchanged, and under every perturbation
AREAS = {"fool_all_1": (0.97, 0.9), "memoryless_2": (0.5, 0.5), "phi_1e-2": (0.45, 0.9)}
AREAS |= {"phi_1e4": (0.3, 0.35)}
GAPS = {"fool_all_1": "visible", "memoryless_2": "closed", "phi_1e-2": "masked"}
GAPS |= {"phi_1e4": "undecided"}
SHIFTS = (-0.02, 0.0, 0.02)  # of a chain


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a report's inputs, with areas by cohort; the reference is detected but for levels."""
    study = make_study()
    fabricate_root(tmp_path, study)
    monkeypatch.setattr(figures, "render_figure", lambda figure, kind: b"")
    rows = []
    for name in PERTURBATIONS:
        for (gans, generator), (classifiers, classifier) in list_perturbed_pairs(study):
            fooled = list_members(study, study.gans[gans].fools)
            in_loss = (f"classifiers/{classifiers}", classifier.number) in fooled
            is_fooling = classifiers == ("iteration_1" if gans == "memoryless_2" else "iteration_0")
            chain = generator.chain
            area = 0.7 if name == "levels" else 0.95  # of a reference
            if is_fooling and gans in COHORTS:
                area = AREAS[gans][name != "none"]
            rows.append(
                {
                    "perturbation": name,
                    "generator_cohort": gans,
                    "generator_chain": chain,
                    "generator_instance": generator.number,
                    "classifier_cohort": classifiers,
                    "classifier_chain": chain,
                    "classifier_instance": classifier.number,
                    "in_loss": in_loss,
                    "in_training": False,
                    "num_images": 4000,
                    "detection_rate": 0.1 + 0.2 * classifier.number,
                    "real_accuracy": 0.9 - 0.1 * classifier.number,
                    "auc": 0.25 if in_loss else round(area + SHIFTS[chain], 6),
                    "detection_at_5pct": 0.6 if gans == "baseline" else 0.2,
                }
            )
    pd.DataFrame(rows).to_csv(tmp_path / "reports/fabricated/perturbations.csv", index=False)
    return tmp_path


def read_page(root: Path) -> str:
    return (root / "reports/fabricated/index.html").read_text(encoding="utf-8")


def find_section(page: str) -> str:
    (found,) = re.findall(r'(?s)<section id="perturbations">.*?</section>', page)
    return str(found)


def test_means_are_over_the_pairs_of_a_chain_and_intervals_over_chains(root: Path) -> None:
    study = make_study()
    table = read_perturbations(root / "reports/fabricated/perturbations.csv", study)
    cohort = read_cohort(table, study, "fool_all_1")
    assert list(cohort.rows) == list(PERTURBATIONS)
    assert cohort.telling == ("jpeg", "blur", "noise")
    row = cohort.rows["jpeg"]
    # 3 generators; 1 classifier in the loss and 2 held out; baseline/2 is the reference
    numbers = {part: cell["num_pairs"] for part, cell in row.items()}
    assert numbers == {"reference": 3 * 2, "in_loss": 3 * 3, "held_out": 3 * 6}  # in three chains
    assert row["in_loss"]["auc"] == pytest.approx(0.25)
    assert row["in_loss"]["real_accuracy"] == pytest.approx(0.9)
    assert row["held_out"]["real_accuracy"] == pytest.approx(0.75)
    assert row["held_out"]["detection_rate"] == pytest.approx(0.4)
    assert row["reference"]["detection_rate"] == pytest.approx(0.4)  # by the same ones
    assert row["reference"]["detection_at_5pct"] == pytest.approx(0.6)
    assert (cohort.auc, cohort.highest_auc) == pytest.approx((0.97, 0.9))
    assert cohort.highest == "jpeg"
    # means of chains 0.88, 0.9, 0.92; logit of 0.9 is ln 9, its slope 1 / 0.09
    half = stats.t.isf(0.025, 2) * 0.02 / math.sqrt(3) / 0.09
    expected = [1 / (1 + math.exp(half) / 9), 1 / (1 + math.exp(-half) / 9), 2]
    found = [row["held_out"][f"auc_{end}"] for end in ("low", "high", "degrees")]
    assert found == pytest.approx(expected)
    assert [row["held_out"][f"auc_{end}"] for end in ("min", "max")] == [0.88, 0.92]


def test_report_says_of_every_cohort_what_became_of_the_gap(root: Path) -> None:
    build_report(root, make_study())
    page = read_page(root)
    section = find_section(page)
    head = r'<th scope="row" class="text name">([\w-]+)</th><td>\S+?</td>'
    verdicts = re.findall(rf'{head}<td class="text">(\w+)</td>', section)
    assert dict(verdicts) == GAPS
    assert section.count(">(levels)<") == 4  # tells nothing of any
    assert section.count("3 of 4") == 4
    text = section.replace("\u00a0", " ")
    assert "0.97 [0.85, 0.99]₂" in text
    assert "0.90 [0.84, 0.94]₂" in text  # of masked phi_1e-2, and of fool_all_1
    assert "standard error of one pair's AUC is 0.051" in section.replace("&#39;", "'")
    metrics = json.loads((root / "reports/fabricated/metrics.json").read_text())
    assert metrics["gaps"] == dict.fromkeys(GAPS.values(), 1.0) | {"unknown": 0.0}
    assert metrics["perturbations"]["phi_1e-2"] == {
        "held_out_auc": 0.45,
        "held_out_auc_highest": 0.9,
        "num_telling": 3.0,
    }
    assert (root / "reports/fabricated/figures/perturbations.png").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation.perturbations": []},
        {"report.phi_sweep": [], **{f"gans.{cohort}.phi": 0.0 for cohort in COHORTS}},
    ],
    ids=["nothing asked", "nobody fooled"],
)
def test_study_without_perturbations_has_no_section(root: Path, changes: dict[str, object]) -> None:
    (root / "reports/fabricated/perturbations.csv").unlink()
    build_report(root, make_study(changes))
    page = read_page(root)
    assert 'id="perturbations"' not in page
    assert "perturbations.csv" not in page
    assert (
        not {"gaps", "perturbations"}
        & json.loads((root / "reports/fabricated/metrics.json").read_text()).keys()
    )


def test_cohort_whose_classifiers_are_all_in_the_loss_is_unknown(root: Path) -> None:
    study = make_study({"classifiers.iteration_1.instances": 1})
    table = read_perturbations(root / "reports/fabricated/perturbations.csv", study)
    cohort = read_cohort(table, study, "memoryless_2")
    assert cohort.gap == "unknown"
    assert cohort.rows["none"]["held_out"]["num_pairs"] == 0
    assert np.isnan(cohort.auc)
    draw_areas({"memoryless_2": cohort})  # draws what there is


@pytest.mark.parametrize(
    ("changes", "pattern", "words"),
    [
        (
            {},
            r"\nblur,fool_all_1,0,1,iteration_0,0,2,.*",
            r"1 of \d+ rows are missing, .* blur",
        ),
        ({}, r"\nnone,.*", r"\d+ of \d+ rows are missing, first perturbation none"),
        ({"evaluation.perturbations": ["jpeg", "zoom"]}, "$^", "first perturbation zoom"),
        ({}, "detection_at_5pct", "column 'detection_at_5pct' is missing"),
    ],
)
def test_table_that_is_not_whole_is_refused(
    root: Path, changes: dict[str, object], pattern: str, words: str
) -> None:
    path = root / "reports/fabricated/perturbations.csv"
    path.write_text(re.sub(pattern, "" if "\\n" in pattern else "other", path.read_text()))
    with pytest.raises(UserError, match=rf"perturbations\.csv: .*{words}"):
        read_perturbations(path, make_study(changes))


def test_perturbations_that_are_not_asked_for_are_left_out(root: Path) -> None:
    study = make_study({"evaluation.perturbations": ["noise"]})
    table = read_perturbations(root / "reports/fabricated/perturbations.csv", study)
    assert set(table["perturbation"]) == {"none", "noise"}
