"""The whole report from a fabricated root: files, bytes, the page's content, absent readings."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import knowledge_gaps
from fabrication import NUM_IMAGES, fabricate_root
from knowledge_gaps.analyses.audit.reading import Audit
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.report.build import build_report
from knowledge_gaps.report.content import read_content
from knowledge_gaps.report.page.render import render_page
from knowledge_gaps.study import Study
from report_tools import AUDIT, EVIDENCE_TABLES, write_evidence

STUDY: dict[str, Any] = {
    "study": {"name": "fabricated", "seed": 0},
    "data": {"name": "mnist", "source": "reduced", "directory": "data/mnist_reduced"},
    "gan_recipes": {
        "dcgan": {
            "architecture": "dcgan",
            "steps": 200,
            "batch_size": 8,
            "generator_optimizer": {"learning_rate": 1e-3},
            "discriminator_optimizer": {"learning_rate": 1e-3},
        }
    },
    "classifier_recipes": {
        "cnn": {
            "architecture": "cnn",
            "steps": 100,
            "batch_size": 8,
            "optimizer": {"learning_rate": 1e-3},
        }
    },
    "pools": {
        "baseline_1": {"extends": "none", "cohort": "gans/baseline", "instances": [0]},
        "baseline_2": {"extends": "baseline_1", "cohort": "gans/baseline", "instances": [1]},
        "fool_all_1": {"extends": "none", "cohort": "gans/fool_all_1", "instances": [0, 1]},
        "c0": {"extends": "none", "cohort": "classifiers/iteration_0", "instances": [0]},
        "c1": {"extends": "none", "cohort": "classifiers/iteration_1", "instances": [0]},
    },
    "gans": {
        "baseline": {"recipe": "dcgan", "instances": 3, "fools": "none", "phi": 0.0},
        "fool_all_1": {"recipe": "dcgan", "instances": 3, "fools": "c0", "phi": 1.0},
        "memoryless_2": {"recipe": "dcgan", "instances": 2, "fools": "c1", "phi": 1.0},
        "phi_1e-2": {"recipe": "dcgan", "instances": 2, "fools": "c0", "phi": 0.01},
        "phi_1e4": {"recipe": "dcgan", "instances": 1, "fools": "c0", "phi": 10000.0},
    },
    "classifiers": {
        "iteration_0": {"recipe": "cnn", "instances": 3, "detects": "baseline_2"},
        "iteration_1": {"recipe": "cnn", "instances": 2, "detects": "fool_all_1"},
        "n_1": {"recipe": "cnn", "instances": 2, "detects": "baseline_1"},
    },
    "evaluation": {"num_images": NUM_IMAGES},
    "report": {
        "iterations": [
            {"gans": "baseline", "classifiers": "iteration_0"},
            {"gans": "fool_all_1", "classifiers": "iteration_1"},
        ],
        "memoryless": [
            {"gans": "baseline", "classifiers": "iteration_0"},
            {"gans": "fool_all_1", "classifiers": "iteration_1"},
            {"gans": "memoryless_2"},
        ],
        "phi_sweep": ["phi_1e-2", "phi_1e4"],
        "generalisation": [{"gans": "baseline", "classifiers": ["n_1", "iteration_0"]}],
    },
}


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.model_validate(STUDY)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Path:
    folder = tmp_path_factory.mktemp("root")
    fabricate_root(folder, study)
    return folder


@pytest.fixture(scope="module")
def page(root: Path, study: Study) -> str:
    build_report(root, study)
    return (root / "reports/index.html").read_text(encoding="utf-8")


def read_outputs(root: Path) -> dict[str, bytes]:
    inputs = {"detections.csv", "quality.csv", *EVIDENCE_TABLES}
    files = sorted((root / "reports").rglob("*.*"))
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in files
        if path.is_file() and path.name not in inputs
    }


def test_build_writes_every_output(root: Path, page: str, study: Study) -> None:
    names = {name.removeprefix("reports/") for name in read_outputs(root)}
    charts = ("iterations", "phi_sweep", "generalisation", "loss_curves", "spectra")
    assert names == {
        "cohorts.csv",
        "index.html",
        "metrics.json",
        "verdicts.json",
        *(f"plots/{name}.csv" for name in ("iterations", "phi_sweep", "generalisation")),
        "plots/loss_curves.csv",
        *(f"figures/{chart}.{kind}" for chart in charts for kind in ("png", "svg")),
        *(f"figures/{name}.png" for name in ("phi_samples", "reals", "residuals", "neighbours")),
        *(f"figures/samples_{cohort}.png" for cohort in study.gans),
    }


def test_build_twice_gives_the_same_bytes_and_leaves_nothing_stale(
    root: Path, page: str, study: Study
) -> None:
    before = read_outputs(root)
    (root / "reports/figures/samples_of_an_earlier_study.png").write_bytes(b"stale")
    build_report(root, study)
    assert read_outputs(root) == before


def test_page_holds_every_figure_and_needs_no_network(root: Path, page: str) -> None:
    num_figures = len(list((root / "reports/figures").glob("*.png")))
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sum(source.startswith("data:image/png;base64,") for source in sources) == num_figures
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert page.count("<img ") == page.count('alt="') == num_figures


def test_page_anchors_lead_somewhere(page: str) -> None:
    anchors = re.findall(r'href="#([^"]*)"', page)
    assert "iterations" in anchors
    assert all(f'id="{anchor}"' in page for anchor in anchors)


def test_page_shows_every_setting_of_the_recipes(page: str, study: Study) -> None:
    for recipe in (study.gan_recipes["dcgan"], study.classifier_recipes["cnn"]):
        for key in type(recipe).model_fields:
            assert re.search(rf'<th scope="row" class="text name">{key}(\.\w+)?</th>', page), key


def test_page_shows_missing_numbers_as_dashes(page: str) -> None:
    text = re.sub(r"data:[^\"]*", "", page)
    assert "nan" not in re.findall(r"[a-z]+", text.lower())
    quality = text[text.index('<section id="quality">') :]
    row = re.search(
        r'<tr><th scope="row" class="text name">phi_1e4</th>.*?</tr>', quality, re.DOTALL
    )
    assert row is not None
    assert row.group().count(f"<td>{NOTHING}</td>") == 4  # FID, KID, precision, recall


def test_page_escapes_names(root: Path, study: Study) -> None:
    content = read_content(root, study)
    row = dataclasses.replace(content.evidence.audit.rows[0], subject="<script>alert(1)</script>")
    evidence = dataclasses.replace(content.evidence, audit=Audit((row,)))
    page = render_page(dataclasses.replace(content, evidence=evidence))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_failed_audit_marks_detection_numbers(tmp_path: Path, study: Study, verdict: str) -> None:
    fabricate_root(tmp_path, study)
    write_evidence(tmp_path, study, AUDIT.replace(",0,pass", f",7,{verdict}"))
    build_report(tmp_path, study)
    page = (tmp_path / "reports/index.html").read_text()
    has_failed = verdict == "fail"
    assert ('<main class="suspect">' in page) == has_failed
    assert ("is marked † until" in page) == has_failed
    # the figures of detection, and no other
    assert len(re.findall("<figcaption>† ", page)) == (3 if has_failed else 0)
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert metrics["audit_passed"] == (0.0 if has_failed else 1.0)


def test_one_cohort_is_in_the_singular(tmp_path: Path, page: str) -> None:
    assert "5 GAN cohorts with 11 generators and 3 classifier cohorts with 7 classifiers," in page
    small = {
        **STUDY,
        "pools": {name: STUDY["pools"][name] for name in ("baseline_1", "baseline_2")},
        "gans": {"baseline": STUDY["gans"]["baseline"]},
        "classifiers": {"iteration_0": STUDY["classifiers"]["iteration_0"]},
        "report": {"iterations": STUDY["report"]["iterations"][:1]},
    }
    study = Study.model_validate(small)
    fabricate_root(tmp_path, study)
    build_report(tmp_path, study)
    text = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert "1 GAN cohort with 3 generators and 1 classifier cohort with 3 classifiers," in text


def make_study(**report: object) -> Study:
    return Study.model_validate({**STUDY, "report": {**STUDY["report"], **report}})


@pytest.mark.parametrize(
    ("report", "anchors", "figures"),
    [
        ({"phi_sweep": []}, ["phi_sweep"], ["phi_sweep", "phi_samples"]),
        ({"generalisation": []}, ["generalisation"], ["generalisation"]),
        ({"memoryless": []}, ["memoryless"], []),
        (
            {"iterations": [], "memoryless": [], "phi_sweep": [], "generalisation": []},
            ["iterations", "phi_sweep", "generalisation", "memoryless"],
            ["iterations", "phi_sweep", "phi_samples", "generalisation"],
        ),
    ],
)
def test_readings_that_a_study_does_not_name_are_absent(
    tmp_path: Path, report: dict[str, object], anchors: list[str], figures: list[str]
) -> None:
    bare = make_study(**report)
    fabricate_root(tmp_path, bare)
    build_report(tmp_path, bare)
    page = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert not any(f'id="{anchor}"' in page or f'href="#{anchor}"' in page for anchor in anchors)
    assert 'id="quality"' in page
    assert not any((tmp_path / f"reports/figures/{name}.png").exists() for name in figures)
    for name in ("iterations", "phi_sweep", "generalisation", "loss_curves"):
        header = (tmp_path / f"reports/plots/{name}.csv").read_text().splitlines()[0]
        assert header.count(",") >= 4


def test_missing_cohort_is_named(tmp_path: Path, study: Study) -> None:
    fabricate_root(tmp_path, study)
    path = tmp_path / "reports/quality.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("memoryless_2")))
    with pytest.raises(
        UserError, match=r"quality\.csv: 2 of \d+ rows are missing, first .*memoryless_2"
    ):
        build_report(tmp_path, study)


@pytest.mark.parametrize("table", ["detections", "quality"])
def test_table_that_was_cut_at_a_line_is_refused(tmp_path: Path, study: Study, table: str) -> None:
    fabricate_root(tmp_path, study)
    path = tmp_path / f"reports/{table}.csv"
    header, _, *rest = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *rest]))
    words = rf"{table}\.csv: 1 of \d+ rows are missing, first generator_cohort "
    with pytest.raises(UserError, match=words):
        build_report(tmp_path, study)


def test_nothing_is_written_when_an_input_is_missing(tmp_path: Path, study: Study) -> None:
    fabricate_root(tmp_path, study)
    (tmp_path / "data/samples/baseline/1.npy").unlink()
    with pytest.raises(UserError, match=r"baseline/1\.npy"):
        build_report(tmp_path, study)
    assert read_outputs(tmp_path) == {}


@pytest.mark.parametrize("column", ["step", "loss_generator"])
def test_curves_without_a_column_are_named(tmp_path: Path, study: Study, column: str) -> None:
    fabricate_root(tmp_path, study)
    path = tmp_path / "models/gans/baseline/0/curves.csv"
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(UserError, match=rf"baseline/0/curves\.csv: column '{column}'"):
        build_report(tmp_path, study)


def test_images_of_another_shape_are_refused(tmp_path: Path, study: Study) -> None:
    fabricate_root(tmp_path, study)
    np.save(tmp_path / "data/samples/baseline/0.npy", np.zeros((4, 28, 28), dtype=np.float32))
    with pytest.raises(UserError, match=r"0\.npy: holds float32 \(4, 28, 28\), uint8"):
        build_report(tmp_path, study)


def test_metrics_are_finite_nested_floats(root: Path, page: str) -> None:
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
    assert phis == {"phi_1e-2": 0.01, "phi_1e4": 1e4}
    assert "fid_lenet_4k" not in metrics["phi_sweep"]["phi_1e4"]  # collapsed: no number, no key


NEW_READING = '''
"""Classifiers of all cohorts on the baseline."""

from matplotlib.figure import Figure

from knowledge_gaps.readings.figures.style import PageFigure
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.readings.reading import Reading


class Everybody(Reading):
    name, title, position = "everybody", "Everybody", 95

    def list_cells(self, study):
        return [("baseline", name, {"n": float(n)}) for n, name in enumerate(study.classifiers)]

    def draw(self, results, content):
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([cell["n"] for cell in content])
        yield make_chart("everybody", figure, "A line.", "Of everybody.", "reports/detections.csv")

    def make_metrics(self, results, content):
        return {"everybody": {cell["classifier_cohort"]: cell["num_pairs"] for cell in content}}


READINGS = (Everybody(),)
'''
NEW_TEMPLATE = """\
{% from "macros.html.j2" import show_figure with context %}
<h2>Everybody</h2>
{{ show_figure("everybody") }}
{% for cell in readings.everybody %}<p>{{ cell.classifier_cohort }}</p>{% endfor %}
"""
REPORT = """\
import yaml
from pathlib import Path
from knowledge_gaps.report.build import build_report
from knowledge_gaps.study import Study
build_report(Path(), Study.model_validate(yaml.safe_load(Path("study.yaml").read_text())))
"""


def test_new_reading_with_its_figure_is_two_files(tmp_path: Path, study: Study) -> None:
    package = tmp_path / "src/knowledge_gaps"
    shutil.copytree(Path(knowledge_gaps.__file__).parent, package)
    (package / "readings/everybody.py").write_text(NEW_READING)
    sections = package / "report/page/templates/sections"
    (sections / "everybody.html.j2").write_text(NEW_TEMPLATE)
    fabricate_root(tmp_path, study)
    (tmp_path / "study.yaml").write_text(json.dumps(STUDY))
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    subprocess.run([sys.executable, "-c", REPORT], cwd=tmp_path, env=environment, check=True)
    page = (tmp_path / "reports/index.html").read_text(encoding="utf-8")
    assert '<a href="#everybody">Everybody</a>' in page
    assert '<section id="everybody">' in page
    assert '<figure id="figure-everybody">' in page
    assert "<p>iteration_0</p><p>iteration_1</p><p>n_1</p>" in page
    assert (tmp_path / "reports/figures/everybody.svg").exists()
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert metrics["everybody"] == {"iteration_0": 3.0, "iteration_1": 6.0, "n_1": 4.0}
