"""The reading of controls.csv: cells, intervals over chains, the matched distortion, the page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fabrication import fabricate_root, list_controls, make_study
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import get_reports
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.controls import (
    ControlRow,
    draw_controls,
    make_rows,
    match_rows,
    read_controls,
)
from knowledge_gaps.report.build import build_report
from knowledge_gaps.study import Study

STUDY = make_study()
ROWS = ["baseline", "fool_all_1", "histogram of baseline"]
ROWS += [f"pgd {level} of baseline" for level in (2, 4, 8, 16, 32, 64)]


def make_table(root: Path, study: Study = STUDY) -> Path:
    """Write controls.csv, with areas that rise by 0.01 and distances that rise by 1 a chain."""
    table = pd.DataFrame(list_controls(study))
    table["auc"] += 0.01 * table["generator_chain"]
    table["fid_lenet_64"] += table["generator_chain"]
    path = root / "controls.csv"
    table.to_csv(path, index=False)
    return path


def read(root: Path, study: Study = STUDY) -> dict[str, ControlRow]:
    rows = make_rows(study, read_controls(make_table(root, study), study))
    return {row.images: row for row in rows}


def test_rows_have_means_over_pairs_and_intervals_over_chains(tmp_path: Path) -> None:
    rows = read(tmp_path)
    assert list(rows) == ROWS
    row = rows["pgd 16 of baseline"]
    assert (row.control, row.distortion, row.classifiers) == ("pgd", 16, "iteration_0")
    # one generator a chain; of three classifiers one is in the loss
    assert [cell["num_pairs"] for cell in (row.in_loss, row.held_out)] == [3, 6]
    assert row.in_loss["auc"] == pytest.approx(0.95 - 16 / 80 + 0.01)
    assert row.held_out["auc"] == pytest.approx(0.95 - 16 / 160 + 0.01)
    assert row.held_out["detection_rate"] == pytest.approx(0.8)
    assert row.held_out["auc_degrees"] == 2
    assert row.mean_change == 8
    # chains at 26, 27 and 28: Student's t with a standard error of 1 / sqrt(3)
    half = stats.t.ppf(0.975, 2) / math.sqrt(3)
    interval = [row.distance.low, row.distance.point, row.distance.high]
    assert interval == pytest.approx([27 - half, 27, 27 + half])


def test_transfer_is_the_shift_from_unchanged_images(tmp_path: Path) -> None:
    rows = read(tmp_path)
    # scores of classifiers in the loss move by the whole distortion, others by half of it
    assert rows["pgd 8 of baseline"].held_out["transfer"] == pytest.approx(0.5)
    assert rows["pgd 32 of baseline"].held_out["transfer"] == pytest.approx(0.5)
    assert math.isnan(rows["histogram of baseline"].held_out["transfer"])  # nothing moved
    assert math.isnan(rows["baseline"].held_out["transfer"])
    # its generators 0, 1 and 2 have medians of 0, 1/16 and 2/16 more; that of the baseline 2/16
    expected = (4 - 1 / 16) / (8 - 1 / 16)
    assert rows["fool_all_1"].held_out["transfer"] == pytest.approx(expected)


def test_match_is_the_least_distortion_that_is_as_far_from_reals(tmp_path: Path) -> None:
    rows = read(tmp_path)
    gans = rows["fool_all_1"]  # 18.5, between the distances of distortions 8 and 16
    match = match_rows("pgd", gans, list(rows.values()), 0.5 / 64)
    assert match.row is not None
    assert match.row.distortion == 16
    # 0.05 in every chain, so the spread is that of one image of 64
    half = stats.t.ppf(0.975, 2) / 64 / math.sqrt(3)
    found = [match.difference.low, match.difference.point, match.difference.high]
    assert found == pytest.approx([0.05 - half, 0.05, 0.05 + half])
    near = {name: row for name, row in rows.items() if row.distortion < 16}
    assert match_rows("pgd", gans, list(near.values()), 0.5 / 64).row is None


def test_report_shows_all_rows_and_the_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "render_figure", lambda figure, kind: b"")
    fabricate_root(tmp_path, STUDY)
    reports = get_reports(tmp_path, STUDY.study.name)
    make_table(reports)
    build_report(tmp_path, STUDY)
    page = (reports / "index.html").read_text(encoding="utf-8").replace("\u00a0", " ")
    [section] = re.findall(r'(?s)<section id="controls">.*?</section>', page)
    rows = re.findall(r'<tr><th scope="row" class="text name">(.*?)</th>', section)
    assert rows == ROWS
    [words] = re.findall(r"<strong>At matched distortion\.</strong>(.*?)</p>", section)
    assert words.startswith(" 16 levels of 255 are the least distortion")
    assert "FID 27.0 [24.5, 29.5]₂ against 19.5 [17.0, 22.0]₂" in words
    assert "the GANs' AUC less the control's is 0.05 [0.01, 0.09]₂" in words
    # every rate has the area and the accuracy on reals below it
    cells = re.findall(r'<td>[^<]+<br><span class="detail">AUC [^<]+<br>reals 0\.90', section)
    assert len(cells) == 2 * len(ROWS)
    metrics = json.loads((reports / "metrics.json").read_text())
    assert metrics["matched_distortion"] == {"pgd": 16.0}
    assert metrics["controls"]["iteration_0 on pgd 4 of baseline"] == {
        "in_loss_auc": 0.91,
        "held_out_auc": 0.935,
        "transfer": 0.5,
        "fid_lenet_64": 15.0,
    }
    assert (reports / "figures/controls.png").exists()


@pytest.mark.parametrize(
    "changes", [{"evaluation.controls": []}, {"gans.fool_all_1.phi": 0.0}], ids=["none", "nobody"]
)
def test_study_without_controls_has_no_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    monkeypatch.setattr(figures, "render_figure", lambda figure, kind: b"")
    study = make_study(changes)
    fabricate_root(tmp_path, study)
    reports = get_reports(tmp_path, study.study.name)
    (reports / "controls.csv").unlink()
    build_report(tmp_path, study)
    page = (reports / "index.html").read_text(encoding="utf-8")
    assert 'id="controls"' not in page
    assert "controls.csv" not in page
    metrics = json.loads((reports / "metrics.json").read_text())
    assert not {"controls", "matched_distortion"} & metrics.keys()


@pytest.mark.parametrize(
    ("pattern", "text", "words"),
    [
        (
            r"\npgd,8\.0,baseline,1,2,fool_all_1,iteration_0,1,2,.*",
            "",
            r"1 of 99 rows are missing, first control pgd, distortion 8, generator_cohort base",
        ),
        ("fid_lenet_64", "fid_lenet_4k", "column 'fid_lenet_64' is missing"),
        (r"\n(none,,base.*)", r"\n\1\n\1", "the row is there twice"),
        ("iteration_0,0,0,True", "iteration_0,0,0,maybe", "found 'maybe', true or false is needed"),
    ],
)
def test_table_that_is_not_whole_is_refused(
    tmp_path: Path, pattern: str, text: str, words: str
) -> None:
    path = make_table(tmp_path)
    path.write_text(re.sub(pattern, text, path.read_text(), count=1))
    with pytest.raises(UserError, match=rf"controls\.csv: .*{words}"):
        read_controls(path, STUDY)


def test_figure_has_a_line_for_each_kind_of_images(tmp_path: Path) -> None:
    rows = read(tmp_path, make_study({"study.chains": 1}))  # of one chain: without intervals
    inside, distances = draw_controls(list(rows.values())).axes
    lines = {line.get_label(): line.get_xydata() for line in inside.get_lines()}
    assert [*lines] == ["baseline", "fool_all_1", "histogram", "pgd"]
    expected = [(0.95 - level / 80, 0.95 - level / 160) for level in (2, 4, 8, 16, 32, 64)]
    np.testing.assert_allclose(lines["pgd"], expected, atol=1e-6)
    marks = [text.get_text() for text in inside.texts]
    assert [mark for mark in marks if mark] == ["2", "4", "8", "16", "32", "64"]
    assert distances.get_lines()[1].get_xdata() == [18.5]
