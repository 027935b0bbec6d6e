"""The whole report from a fabricated root: files, bytes, the page's content, absent readings."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jinja2 import ChoiceLoader, DictLoader

from fabrication import AUDIT, EMPTY_COHORT, STUDY, fabricate_root, make_study, write
from knowledge_gaps import readings
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.readings import figures
from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.readings.reading import list_readings
from knowledge_gaps.report import render
from knowledge_gaps.report.build import build_report

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
    reports = root / "reports"
    paths = [*reports.glob("*.json"), *reports.glob("*.html"), reports / "cohorts.csv"]
    paths += [*reports.glob("figures/*"), *reports.glob("plots/*")]
    return {
        path.relative_to(reports).as_posix(): path.read_bytes() for path in paths if path.exists()
    }


def read_metrics(root: Path) -> dict[str, dict[str, float]]:
    metrics: dict[str, dict[str, float]] = json.loads((root / "reports/metrics.json").read_text())
    return metrics


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


def test_summary_names_the_rates_of_the_first_fooling_generators(root: Path, page: str) -> None:
    cells = pd.read_csv(root / "reports/cohorts.csv").set_index(
        ["pairs", "classifier_cohort", "generator_cohort"]
    )

    def write_cell(pairs: str, classifiers: str, gans: str, measure: str = "detection_rate") -> str:
        row = cells.loc[(pairs, classifiers, gans)]
        point, low, high = (row[f"{measure}{end}"] for end in ("", "_low", "_high"))
        return f"{point:.2f} [{low:.2f}, {high:.2f}]"

    held_out = ("held_out", "iteration_0", "fool_all_1")
    (words,) = re.findall(r"<strong>In short.</strong>(.*?)</p>", page)
    rates = re.findall(r"([\d.]+ \[.*?\])", words.replace("\u00a0", " "))
    assert rates == [
        write_cell("held_out", "iteration_0", "baseline"),
        write_cell("in_loss", "iteration_0", "fool_all_1"),
        write_cell(*held_out),
        write_cell(*held_out, "auc"),
        write_cell("held_out", "iteration_1", "fool_all_1"),
    ]


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_failed_audit_marks_detection_numbers(blank: Path, verdict: str) -> None:
    audit = AUDIT.replace(",0,pass", f",7,{verdict}").replace("train,", "<script>,")
    write(blank / "reports/audit.csv", audit)
    build_report(blank, make_study())
    page, has_failed = read_page(blank), verdict == "fail"
    assert ('<main class="suspect">' in page) == has_failed
    assert ("is marked † until" in page) == has_failed
    # the figures of detection, and no other
    assert len(re.findall("<figcaption>† ", page)) == (3 if has_failed else 0)
    assert read_metrics(blank)["audit_passed"] == (0.0 if has_failed else 1.0)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("names", [*([name] for name in READINGS[1:]), READINGS])
def test_readings_that_a_study_does_not_name_are_absent(blank: Path, names: list[str]) -> None:
    build_report(blank, make_study({f"report.{name}": [] for name in names}))
    page = read_page(blank)
    assert not any(f'id="{name}"' in page or f'href="#{name}"' in page for name in names)
    assert 'id="quality"' in page
    assert ("In short" in page) == ("iterations" not in names)
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
        ("reports/neighbours.csv", "_lenet", "_vgg", r"column 'distance_lenet' is missing"),
        ("reports/neighbours.csv", ",0,3,", ",0,64,", r"holds 64 images, image 64 is needed"),
        ("models/gans/baseline/0/curves.csv", "step", "other", r"0/curves\.csv: column 'step'"),
        ("models/gans/baseline/0/curves.csv", "loss_generator", "x", "column 'loss_generator'"),
    ],
)
def test_table_that_is_not_whole_is_refused(
    blank: Path, file: str, pattern: str, text: str, words: str
) -> None:
    write(blank / file, re.sub(pattern, text, (blank / file).read_text()))
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
    metrics = read_metrics(root)
    groups = {"baseline", "fid", "floor", "generalisation", "held_out_detection", "phi_sweep"}
    groups |= {"in_loss_detection", "memoryless_held_out_detection", "real_accuracy", "verdicts"}
    assert set(metrics) == groups | {"audit_has_power", "audit_passed"}
    assert metrics["floor"]["fid_lenet_4k"] == 0.85
    assert metrics["in_loss_detection"] == {"iteration_0": {"fool_all_1": 0.02}}
    assert metrics["real_accuracy"] == {"iteration_0": 0.982, "iteration_1": 0.981, "n_1": 0.981}
    numbers = {name: row["num_generators"] for name, row in metrics["generalisation"].items()}
    assert numbers == {"iteration_0": 2.0, "n_1": 1.0}
    phis = {name: row["phi"] for name, row in metrics["phi_sweep"].items()}
    assert phis == {"phi_1e-2": 0.01, EMPTY_COHORT: 1e4}
    assert "fid_lenet_4k" not in metrics["phi_sweep"][EMPTY_COHORT]  # collapsed: no number, no key


def test_curves_are_averaged_over_instances(root: Path) -> None:
    files = [root / f"models/gans/fool_all_1/{number}/curves.csv" for number in range(3)]
    expected = pd.concat(map(pd.read_csv, files)).groupby("step", as_index=False).mean()
    plot = pd.read_csv(root / "reports/plots/loss_curves.csv")
    assert plot[plot.cohort == "baseline"].loss_fooling.isna().all()
    found = plot[plot.cohort == "fool_all_1"].drop(columns="cohort").reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


NEW_READING = """
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
"""
NEW_TEMPLATE = """\
{% from "macros.html.j2" import show_figure with context %}
<h2>Everybody</h2>
{% call show_figure("everybody", "A line.", "reports/detections.csv") %}Of everybody.{% endcall %}
{% for cell in readings.everybody %}<p>{{ cell.classifier_cohort }}</p>{% endfor %}
"""


@pytest.fixture
def _new_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put a file into the folder of readings, and another into that of templates."""
    write(tmp_path / "new/everybody.py", NEW_READING)
    monkeypatch.setattr(readings, "__path__", [*readings.__path__, str(tmp_path / "new")])
    environment = render.make_environment()
    new = DictLoader({"sections/everybody.html.j2": NEW_TEMPLATE})
    environment.loader = ChoiceLoader([environment.loader, new])
    monkeypatch.setattr(render, "make_environment", lambda: environment)
    list_readings.cache_clear()
    yield
    list_readings.cache_clear()
    del sys.modules["knowledge_gaps.readings.everybody"]


@pytest.mark.usefixtures("_new_reading")
def test_new_reading_with_its_figure_is_two_files(blank: Path) -> None:
    build_report(blank, make_study())
    page = read_page(blank)
    assert '<a href="#everybody">Everybody</a>' in page
    assert '<section id="everybody">' in page
    assert re.search(r'(?s)<figure id="figure-everybody">.*?>Of everybody\. <span', page)
    assert "<p>iteration_0</p><p>iteration_1</p><p>n_1</p>" in page
    assert (blank / "reports/figures/everybody.svg").exists()
    expected = {"iteration_0": 3.0, "iteration_1": 6.0, "n_1": 4.0}
    assert read_metrics(blank)["everybody"] == expected
