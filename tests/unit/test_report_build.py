"""The whole report from a fabricated root: files, bytes, the page's content, absent readings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import knowledge_gaps
from fabrication import AUDIT, EMPTY_COHORT, STUDY, fabricate_root, make_study
from knowledge_gaps.analyses.audit.reading import Audit
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.report import build
from knowledge_gaps.report.build import build_report
from knowledge_gaps.report.render import render_page

READINGS = ("iterations", "phi_sweep", "generalisation", "memoryless")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    fabricate_root(folder, make_study())
    build_report(folder, make_study())
    return folder


@pytest.fixture
def blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the inputs of a report that is not rendered."""
    fabricate_root(tmp_path, make_study())
    monkeypatch.setattr(figures, "render_figure", lambda figure, kind: b"")
    return tmp_path


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return read_page(root)


def read_page(root: Path) -> str:
    return (root / "reports/index.html").read_text(encoding="utf-8")


def read_outputs(root: Path) -> dict[str, bytes]:
    inputs = {"detections", "quality", "agreement", "attributions", "audit", "neighbours"}
    inputs |= {"spectra"}
    return {
        path.relative_to(root / "reports").as_posix(): path.read_bytes()
        for path in sorted((root / "reports").rglob("*.*"))
        if path.stem not in inputs or path.parent.name == "figures"
    }


def test_build_writes_every_output(root: Path) -> None:
    charts = ("iterations", "phi_sweep", "generalisation", "loss_curves", "spectra")
    assert set(read_outputs(root)) == {
        "cohorts.csv",
        "index.html",
        "metrics.json",
        "verdicts.json",
        *(f"plots/{name}.csv" for name in (*READINGS[:3], "loss_curves")),
        *(f"figures/{chart}.{kind}" for chart in charts for kind in ("png", "svg")),
        *(f"figures/{name}.png" for name in ("phi_samples", "reals", "residuals", "neighbours")),
        *(f"figures/samples_{cohort}.png" for cohort in STUDY["gans"]),
    }


def test_build_twice_gives_the_same_bytes_and_leaves_nothing_stale(root: Path) -> None:
    before = read_outputs(root)
    (root / "reports/figures/samples_of_an_earlier_study.png").write_bytes(b"stale")
    build_report(root, make_study())
    assert read_outputs(root) == before


def test_page_holds_every_figure_and_needs_no_network(root: Path, page: str) -> None:
    num_figures = len(list((root / "reports/figures").glob("*.png")))
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sum(source.startswith("data:image/png;base64,") for source in sources) == num_figures
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not re.search(r"<script|@import|url\(", page)
    assert page.count("<img ") == page.count('alt="') == num_figures
    anchors = re.findall(r'href="#([^"]*)"', page)
    assert "iterations" in anchors
    assert all(f'id="{anchor}"' in page for anchor in anchors)


def test_page_shows_missing_numbers_as_dashes(page: str) -> None:
    text = re.sub(r"data:[^\"]*", "", page)
    assert "nan" not in re.findall(r"[a-z]+", text.lower())
    quality = text[text.index('<section id="quality">') :]
    row = re.search(rf'<tr><th scope="row" class="text name">{EMPTY_COHORT}</th>.*?</tr>', quality)
    assert row is not None
    assert row.group().count(f"<td>{NOTHING}</td>") == 4  # FID, KID, precision, recall


def test_page_escapes_names(blank: Path) -> None:
    content = build.read_content(blank, make_study())
    row = content.audit.rows[0]._replace(subject="<script>alert(1)</script>")
    figures = {figure.name: figure for figure in content.draw()}
    page = render_page(**vars(content) | {"audit": Audit((row,)), "figures": figures})
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_failed_audit_marks_detection_numbers(blank: Path, verdict: str) -> None:
    (blank / "reports/audit.csv").write_text(AUDIT.replace(",0,pass", f",7,{verdict}"))
    build_report(blank, make_study())
    page, has_failed = read_page(blank), verdict == "fail"
    assert ('<main class="suspect">' in page) == has_failed
    assert ("is marked † until" in page) == has_failed
    # the figures of detection, and no other
    assert len(re.findall("<figcaption>† ", page)) == (3 if has_failed else 0)
    metrics = json.loads((blank / "reports/metrics.json").read_text())
    assert metrics["audit_passed"] == (0.0 if has_failed else 1.0)


@pytest.mark.parametrize("absent", [*READINGS[1:], READINGS])
def test_readings_that_a_study_does_not_name_are_absent(
    blank: Path, absent: str | tuple[str, ...]
) -> None:
    names = [absent] if isinstance(absent, str) else absent
    build_report(blank, make_study({f"report.{name}": [] for name in names}))
    page = read_page(blank)
    assert not any(f'id="{name}"' in page or f'href="#{name}"' in page for name in names)
    assert 'id="quality"' in page
    shown = {path.stem for path in (blank / "reports/figures").iterdir()}
    assert not shown & {*names, *(["phi_samples"] if "phi_sweep" in names else [])}
    for name in (*READINGS[:3], "loss_curves"):
        header = (blank / f"reports/plots/{name}.csv").read_text().splitlines()[0]
        assert header.count(",") >= 4


@pytest.mark.parametrize(
    ("file", "pattern", "text", "words"),
    [
        (
            "reports/quality.csv",
            r"\nmemoryless_2.*",
            "",
            r"quality\.csv: 2 of \d+ rows are missing, first generator_cohort memoryless_2",
        ),
        ("reports/detections.csv", r"\nbaseline,0,n_1,0.*", "", r"detections\.csv: 1 of \d+ rows"),
        ("models/gans/baseline/0/curves.csv", "step", "other", r"0/curves\.csv: column 'step'"),
        ("models/gans/baseline/0/curves.csv", "loss_generator", "x", "column 'loss_generator'"),
    ],
)
def test_table_that_is_not_whole_is_refused(
    blank: Path, file: str, pattern: str, text: str, words: str
) -> None:
    path = blank / file
    path.write_text(re.sub(pattern, text, path.read_text()))
    with pytest.raises(UserError, match=words):
        build_report(blank, make_study())


def test_instances_that_the_study_no_longer_names_are_left_out(blank: Path) -> None:
    build_report(blank, make_study({"gans.baseline.instances": 2}))
    cohorts = pd.read_csv(blank / "reports/cohorts.csv")
    assert cohorts[cohorts.generator_cohort == "baseline"].num_generators.max() == 2


def test_nothing_is_written_when_images_are_missing_or_of_another_shape(blank: Path) -> None:
    path = blank / "data/samples/baseline/1.npy"
    np.save(path, np.zeros((4, 28, 28), dtype=np.float32))
    with pytest.raises(UserError, match=r"1\.npy: holds float32 \(4, 28, 28\), uint8"):
        build_report(blank, make_study())
    path.unlink()
    with pytest.raises(UserError, match=r"baseline/1\.npy"):
        build_report(blank, make_study())
    assert read_outputs(blank) == {}


def test_metrics_are_finite_nested_floats(root: Path) -> None:
    metrics = json.loads((root / "reports/metrics.json").read_text())
    assert set(metrics) == {
        "audit_has_power",
        "audit_passed",
        "baseline",
        "fid",
        "floor",
        "generalisation",
        "held_out_detection",
        "in_loss_detection",
        "memoryless_held_out_detection",
        "phi_sweep",
        "real_accuracy",
        "verdicts",
    }
    assert metrics["floor"]["fid_lenet_4k"] == 0.85
    assert metrics["in_loss_detection"] == {"iteration_0": {"fool_all_1": 0.02}}
    assert metrics["real_accuracy"] == {"iteration_0": 0.982, "iteration_1": 0.981, "n_1": 0.981}
    numbers = {name: row["num_generators"] for name, row in metrics["generalisation"].items()}
    assert numbers == {"iteration_0": 2.0, "n_1": 1.0}
    phis = {name: row["phi"] for name, row in metrics["phi_sweep"].items()}
    assert phis == {"phi_1e-2": 0.01, EMPTY_COHORT: 1e4}
    assert "fid_lenet_4k" not in metrics["phi_sweep"][EMPTY_COHORT]  # collapsed: no number, no key


NEW_READING = '''
"""Classifiers of all cohorts on the baseline."""

from matplotlib.figure import Figure

from knowledge_gaps.readings.figures import PageFigure
from knowledge_gaps.readings.reading import Reading


class Everybody(Reading):
    name, title, position = "everybody", "Everybody", 95

    def list_cells(self, study):
        return [("baseline", name, {"n": float(n)}) for n, name in enumerate(study.classifiers)]

    def draw(self, results, content):
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([cell["n"] for cell in content])
        yield PageFigure("everybody", figure)

    def make_metrics(self, results, content):
        return {"everybody": {cell["classifier_cohort"]: cell["num_pairs"] for cell in content}}


READINGS = (Everybody(),)
'''
NEW_TEMPLATE = """\
{% from "macros.html.j2" import show_figure with context %}
<h2>Everybody</h2>
{% call show_figure("everybody", "A line.", "reports/detections.csv") %}Of everybody.{% endcall %}
{% for cell in readings.everybody %}<p>{{ cell.classifier_cohort }}</p>{% endfor %}
"""
REPORT = """\
import json
from pathlib import Path
from knowledge_gaps.readings import figures
from knowledge_gaps.report.build import build_report
from knowledge_gaps.study import Study
figures.render_figure = lambda figure, kind: b"pixels"
build_report(Path(), Study.model_validate(json.loads(Path("study.json").read_text())))
"""


def test_new_reading_with_its_figure_is_two_files(blank: Path) -> None:
    package = blank / "src/knowledge_gaps"
    shutil.copytree(Path(knowledge_gaps.__file__).parent, package)
    (package / "readings/everybody.py").write_text(NEW_READING)
    (package / "report/templates/sections/everybody.html.j2").write_text(NEW_TEMPLATE)
    (blank / "study.json").write_text(json.dumps(STUDY))
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    subprocess.run([sys.executable, "-c", REPORT], cwd=blank, env=environment, check=True)
    page = read_page(blank)
    assert '<a href="#everybody">Everybody</a>' in page
    assert '<section id="everybody">' in page
    assert re.search(r'(?s)<figure id="figure-everybody">.*?>Of everybody\. <span', page)
    assert "<p>iteration_0</p><p>iteration_1</p><p>n_1</p>" in page
    assert (blank / "reports/figures/everybody.svg").exists()
    metrics = json.loads((blank / "reports/metrics.json").read_text())
    assert metrics["everybody"] == {"iteration_0": 3.0, "iteration_1": 6.0, "n_1": 4.0}
