"""The reading of judges: whose AUC stands beside which cells, and what the page says of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from fabrication import fabricate_root, make_study, write
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.judges import JudgesContent
from knowledge_gaps.readings.reading import Results, list_readings
from knowledge_gaps.readings.tables import read_tables
from knowledge_gaps.report.build import build_report
from knowledge_gaps.study.graph import list_detected, list_generators

STUDY = make_study()
# AUC of each instance of a chain by judge, pool and GAN cohort; all others have 0.5
AUCS: dict[tuple[str, str, str], tuple[float | None, ...]] = {
    ("grey_levels", "baseline_2", "baseline"): (1.0, 1.0, 0.9),
    ("grey_levels", "baseline_2", "fool_all_1"): (0.7, 0.8, 0.9),
    ("probe", "baseline_2", "fool_all_1"): (0.8, 0.8, 0.65),
    ("probe", "baseline_2", "phi_1e-2"): (0.9, 0.6),  # the second one is missing in chain 0
    ("grey_levels", "baseline_2", "phi_1e4"): (None,),
    ("probe", "baseline_2", "phi_1e4"): (None,),
    ("grey_levels", "fool_all_1", "fool_all_1"): (1.0, 1.0, 0.95),
    ("probe", "fool_all_1", "memoryless_2"): (0.6, 0.7),
    ("grey_levels", "baseline_2", "memoryless_2"): (1.0, 1.0),  # of no classifier in its loss
}
SHIFTS = (-0.02, 0.0, 0.02)  # of a chain, where an AUC is at most 0.9
MISSING = ("probe", "baseline_2", "phi_1e-2", (0, 1))


def list_rows() -> Iterator[dict[str, object]]:
    for judge in STUDY.evaluation.judges:
        for pool, members in list_detected(STUDY).items():
            for cohort, (chain, number) in list_generators(STUDY):
                aucs = AUCS.get((judge, pool, cohort))
                auc = 0.5 if aucs is None else aucs[number]
                if auc is not None and auc <= 0.9:
                    auc = round(auc + SHIFTS[chain], 6)
                is_missing = (judge, pool, cohort, (chain, number)) == MISSING
                yield {
                    "judge": judge,
                    "pool": pool,
                    "generator_cohort": cohort,
                    "generator_chain": chain,
                    "generator_instance": number,
                    "in_training": (cohort, number) in members,
                    "num_images": 4000,
                    "detection_rate": 0.25,
                    "real_accuracy": 0.75,
                    "auc": None if is_missing else auc,
                }


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the inputs of a report whose figures are not rendered."""
    fabricate_root(tmp_path, STUDY)
    write(tmp_path / "reports/fabricated/judges.csv", pd.DataFrame(list_rows()).to_csv(index=False))
    monkeypatch.setattr(figures, "render_figure", lambda figure, kind: b"")
    return tmp_path


def read(root: Path) -> tuple[Results, JudgesContent]:
    results = Results(root, STUDY, *read_tables(root, STUDY), 0)
    return results, results.read("judges")


def test_judges_are_those_of_the_pool_that_the_classifier_in_the_loss_detects(root: Path) -> None:
    results, content = read(root)
    found = {name: [row.gans for row in rows] for name, rows in content.tables.items()}
    assert found == {
        "iteration_0": ["baseline", "fool_all_1", "phi_1e-2", "phi_1e4"],
        "iteration_1": ["fool_all_1", "memoryless_2"],
    }
    baseline, fooling, _, collapsed = content.tables["iteration_0"]
    own, memoryless = content.tables["iteration_1"]
    assert [row.is_fooling for row in (baseline, fooling, own, memoryless)] == [0, 1, 0, 1]
    assert fooling.in_loss["detection_rate_mean"] == 0.02  # as fabricated
    cell = results.find("held_out", "iteration_0", "fool_all_1")
    assert cell is not None
    same = ("detection_rate", "auc", "auc_high", "num_pairs")
    assert [fooling.held_out[name] for name in same] == [cell[name] for name in same]
    # generators of the pool are left out
    assert baseline.judges["grey_levels"]["auc"] == pytest.approx(0.9)
    assert baseline.judges["grey_levels"]["detection_rate"] == pytest.approx(0.25)
    assert own.judges["grey_levels"]["auc"] == pytest.approx(0.95)
    assert fooling.judges["grey_levels"]["auc"] == pytest.approx(0.8)
    assert fooling.judges["probe"]["auc"] == pytest.approx(0.75)
    best = [row.best for row in (fooling, memoryless, collapsed)]
    assert best == ["grey_levels", "probe", None]


def test_numbers_of_judges_are_means_over_chains_with_intervals(root: Path) -> None:
    _, content = read(root)
    _, fooling, phi, _ = content.tables["iteration_0"]
    found = [fooling.judges["grey_levels"][f"auc{end}"] for end in ("", "_low", "_high")]
    # means of chains 0.78, 0.80, 0.82; logit of 0.8 is ln 4, its slope 1 / 0.16
    half = stats.t.isf(0.025, 2) * 0.02 / math.sqrt(3) / 0.16
    expected = [0.8, 1 / (1 + math.exp(half) / 4), 1 / (1 + math.exp(-half) / 4)]
    assert found == pytest.approx(expected)
    assert fooling.judges["grey_levels"]["auc_degrees"] == 2
    # means of chains 0.88 of one generator, then 0.75 and 0.77 of two
    assert phi.judges["probe"]["auc"] == pytest.approx(0.8)


def test_metrics_have_the_best_judge_of_each_cohort_that_fools(root: Path) -> None:
    metrics = list_readings()["judges"].make_metrics(*read(root))
    expected = {"fool_all_1": 0.8, "phi_1e-2": 0.8, "memoryless_2": 0.65}
    assert metrics == {"judge_best_auc": pytest.approx(expected)}


def test_page_has_judges_beside_classifiers_and_a_line_in_the_summary(root: Path) -> None:
    build_report(root, STUDY)
    page = (root / "reports/fabricated/index.html").read_text(encoding="utf-8")
    [section] = re.findall(r'(?s)<section id="judges">.*?</section>', page)
    rows = re.findall(r'<tr><th scope="row" class="text name">(.*?)</tr>', section)
    texts = [re.sub("<[^>]*>", " ", row).replace("\u00a0", " ") for row in rows]
    assert "0.80 [0.75, 0.85]₂" in texts[1]
    cells = [re.sub(r"\[[^\]]*\]₂", "", text).split() for text in texts]
    assert [row[0] for row in cells][:2] == ["baseline", "fool_all_1"]
    fooling = " ".join(cells[1])
    assert fooling.endswith("0.80 0.75 grey levels AUC 0.80 rate 0.25 reals 0.75")
    assert "0.02 " in fooling
    assert " ".join(cells[3]).endswith(" ".join(3 * NOTHING))  # no judge has an AUC
    assert "judges trained on baseline/0, baseline/1." in section
    [line] = re.findall(r"<strong>Outside the loop.</strong>(.*?)</p>", page)
    assert "2 detectors that took part in no loss" in line
    assert "3 GAN cohorts that fool classifiers" in line
    assert "AUC from 0.65 to 0.80 (" in line


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        (r"\nprobe,baseline_2,baseline,0,0.*", "", "1 of 198 rows are missing, first judge probe"),
        (r"\nprobe,baseline_2,baseline,0,0", r"\nprobe,baseline_2,baseline,0,1", "is there twice"),
        ("real_accuracy", "accuracy", "column 'real_accuracy' is missing"),
        (",0.95\n", ",1.95\n", r"column 'auc', line \d+: found '1.95', a number in \[0, 1\]"),
    ],
)
def test_table_that_is_not_whole_is_refused(
    root: Path, pattern: str, text: str, words: str
) -> None:
    path = root / "reports/fabricated/judges.csv"
    write(path, re.sub(pattern, text, path.read_text(), count=1))
    with pytest.raises(UserError, match=rf"judges\.csv: .*{words}"):
        read(root)
