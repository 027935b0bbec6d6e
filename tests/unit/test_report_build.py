"""The whole report from a fabricated root: files, bytes, the page's content, absent readings."""

from __future__ import annotations

import html
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
    return (root / "reports/fabricated/index.html").read_text(encoding="utf-8")


def read_outputs(root: Path) -> dict[str, bytes]:
    reports = root / "reports" / "fabricated"
    paths = [*reports.glob("*.json"), *reports.glob("*.html"), reports / "cohorts.csv"]
    paths += [*reports.glob("figures/*"), *reports.glob("plots/*")]
    return {
        path.relative_to(reports).as_posix(): path.read_bytes() for path in paths if path.exists()
    }


def read_metrics(root: Path) -> dict[str, dict[str, float]]:
    metrics: dict[str, dict[str, float]] = json.loads(
        (root / "reports/fabricated/metrics.json").read_text()
    )
    return metrics


def test_build_writes_every_output(root: Path) -> None:
    charts = ("iterations", "phi_sweep", "generalisation", "loss_curves", "spectra")
    charts += ("controls", "perturbations")
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
    (root / "reports/fabricated/figures/samples_of_an_earlier_study.png").write_bytes(b"stale")
    build_report(root, make_study())
    assert read_outputs(root) == before


def test_page_of_a_lenet_of_the_study_names_its_features_and_classes(tmp_path: Path) -> None:
    study = make_study({"evaluation.extractor": "lenet_on_reals"})
    fabricate_root(tmp_path, study)
    for table in (*tmp_path.rglob("quality.csv"), *tmp_path.rglob("neighbours.csv")):
        write(table, table.read_text().replace("lenet_on_reals", "lenet_mnist"))
    build_report(tmp_path, study)
    (page,) = (path.read_text(encoding="utf-8") for path in tmp_path.rglob("index.html"))
    assert "Class entropy in nats, of the classes of" in page
    assert "fid_lenet_mnist_4k" in page
    (neighbours,) = tmp_path.rglob("neighbours.csv")
    write(neighbours, neighbours.read_text().replace("lenet_mnist", "lenet"))
    with pytest.raises(UserError, match="column 'distance_lenet_mnist' is missing"):
        build_report(tmp_path, study)


def test_page_holds_every_figure_and_needs_no_network(root: Path, page: str) -> None:
    num_figures = len(list((root / "reports/fabricated/figures").glob("*.png")))
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
    assert not {"nan", "None", "undefined"} & set(re.findall(r"[A-Za-z]+", text))
    assert "NaN" not in text
    quality = text[text.index('<section id="quality">') :]
    row = re.search(rf'<tr><th scope="row" class="text name">{EMPTY_COHORT}</th>.*?</tr>', quality)
    assert row is not None
    assert row.group().count(f"<td>{NOTHING}</td>") == 4  # FID, KID, precision, recall


def test_summary_names_the_rates_of_the_first_fooling_generators(root: Path, page: str) -> None:
    cells = pd.read_csv(root / "reports/fabricated/cohorts.csv").set_index(
        ["pairs", "classifier_cohort", "generator_cohort"]
    )

    def write_cell(pairs: str, classifiers: str, gans: str, measure: str = "detection_rate") -> str:
        row = cells.loc[(pairs, classifiers, gans)]
        point, low, high = (row[f"{measure}{end}"] for end in ("", "_low", "_high"))
        return f"{point:.2f} [{low:.2f}, {high:.2f}]"

    held_out = ("held_out", "iteration_0", "fool_all_1")
    (words,) = re.findall(r"<strong>In short.</strong>(.*?)</p>", page)
    rates = re.findall(r"([\d.]+ \[.*?\])₂", words.replace("\u00a0", " "))
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
    write(blank / "reports/fabricated/audit.csv", audit)
    build_report(blank, make_study())
    page, has_failed = read_page(blank), verdict == "fail"
    assert ('<main class="suspect">' in page) == has_failed
    assert ("is marked † until" in page) == has_failed
    # the figures of detection, and no other
    assert len(re.findall("<figcaption>† ", page)) == (5 if has_failed else 0)
    assert read_metrics(blank)["audit_passed"] == (0.0 if has_failed else 1.0)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("names", [*([name] for name in READINGS[1:]), READINGS])
def test_readings_that_a_study_does_not_name_are_absent(blank: Path, names: list[str]) -> None:
    (blank / "reports/fabricated/judges.csv").unlink()
    changes = {f"report.{name}": [] for name in names} | {"evaluation.judges": []}
    build_report(blank, make_study(changes))
    page = read_page(blank)
    absent = [*names, "judges"]
    assert not any(f'id="{name}"' in page or f'href="#{name}"' in page for name in absent)
    assert "Outside the loop" not in page
    assert "judge_best_auc" not in read_metrics(blank)
    assert 'id="quality"' in page
    assert ("In short" in page) == ("iterations" not in names)
    shown = {path.stem for path in (blank / "reports/fabricated/figures").iterdir()}
    assert not shown & {*names, *(["phi_samples"] if "phi_sweep" in names else [])}
    for name in (*READINGS[:3], "loss_curves"):
        header = (blank / f"reports/fabricated/plots/{name}.csv").read_text().splitlines()[0]
        assert header.count(",") >= 4


@pytest.mark.parametrize(
    ("file", "pattern", "text", "words"),
    [
        (
            "reports/fabricated/quality.csv",
            r"\nmemoryless_2.*",
            "",
            r"quality\.csv: 6 of \d+ rows are missing, first generator_cohort memoryless_2",
        ),
        (
            "reports/fabricated/detections.csv",
            r"\nbaseline,0,0,n_1,0,0.*",
            "",
            r"detections\.csv: 1 of \d+ rows",
        ),
        (
            "reports/fabricated/neighbours.csv",
            "_lenet",
            "_vgg",
            r"column 'distance_lenet' is missing",
        ),
        (
            "reports/fabricated/neighbours.csv",
            ",0,3,",
            ",0,64,",
            r"holds 64 images, image 64 is needed",
        ),
        ("models/gans/baseline/0/0/curves.csv", "step", "other", r"0/curves\.csv: column 'step'"),
        ("models/gans/baseline/0/0/curves.csv", "loss_generator", "x", "column 'loss_generator'"),
    ],
)
def test_table_that_is_not_whole_is_refused(
    blank: Path, file: str, pattern: str, text: str, words: str
) -> None:
    write(blank / file, re.sub(pattern, text, (blank / file).read_text()))
    with pytest.raises(UserError, match=words):
        build_report(blank, make_study())


def test_instances_that_the_study_no_longer_names_are_left_out(blank: Path) -> None:
    build_report(blank, make_study({"gans.baseline.instances": 2, "study.chains": 2}))
    cohorts = pd.read_csv(blank / "reports/fabricated/cohorts.csv")
    assert cohorts[cohorts.generator_cohort == "baseline"].num_generators.max() == 2
    assert set(cohorts.num_chains) == {2}
    assert set(cohorts.detection_rate_degrees) == {1}
    quality = pd.read_csv(blank / "reports/fabricated/quality.csv").query("generator_chain < 2")
    expected = quality.query("generator_cohort == 'baseline' and generator_instance < 2")
    found = read_metrics(blank)["baseline"]["fid_lenet_4k"]
    assert found == pytest.approx(expected["fid_lenet_4k"].mean(), abs=1e-6)


BOUNDS = r"\[-?[\d.]+, -?[\d.]+\]"
BOUNDED = ("iterations", "memoryless", "transfer", "judges", "perturbations", "statistics")


def list_sections(page: str) -> dict[str, str]:
    """Return the text of every section of the page by its anchor."""
    found = re.findall(r'(?s)<section id="([\w]+)">(.*?)</section>', page)
    texts = {name: re.sub(r"<[^>]*>", " ", section) for name, section in found}
    return {name: html.unescape(text).replace("\u00a0", " ") for name, text in texts.items()}


def test_every_interval_has_its_degrees_of_freedom(page: str) -> None:
    sections = list_sections(page)
    for name in (*BOUNDED, "phi_sweep", "generalisation"):
        intervals = re.findall(rf"{BOUNDS}(.)", sections[name])
        assert len(intervals) >= 4, name
        assert set(intervals) == {"₂"}, name
        assert "Student's t over" in sections[name] or "interval of the mean" in sections[name]
    assert "in each of the 3 chains" in " ".join(sections["findings"].split())


def test_one_chain_has_no_interval_and_decides_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "render_figure", lambda figure, kind: b"")
    study = make_study({"study.chains": 1})
    fabricate_root(tmp_path, study)
    build_report(tmp_path, study)
    sections = list_sections(read_page(tmp_path))
    assert "no interval covers a new run of it and no claim is decided" in sections["findings"]
    assert "no number here says how far a new run would move" in sections["limits"]
    own = {name: text for name, text in sections.items() if name != "findings"}
    assert not [name for name, text in own.items() if re.search(BOUNDS, text)]
    assert not [name for name, text in own.items() if "with its 95 % interval" in text]
    assert "±" in sections["phi_sweep"]  # the spread over instances is shown as what it is
    verdicts = json.loads((tmp_path / "reports/fabricated/verdicts.json").read_text())
    answers = [claim["study"] for claim in verdicts["claims"]]
    words = {answer["verdict"] for answer in answers}
    assert words <= {"undecided", "void", "not asked here"}
    assert "undecided" in words
    assert {answer["low"] for answer in answers} == {None}


def test_nothing_is_written_when_images_are_missing_or_of_another_shape(blank: Path) -> None:
    path = blank / "data/samples/baseline/0/1.npy"
    np.save(path, np.zeros((4, 28, 28), dtype=np.float32))
    with pytest.raises(UserError, match=r"1\.npy: holds float32 \(4, 28, 28\), uint8"):
        build_report(blank, make_study())
    path.unlink()
    with pytest.raises(UserError, match=r"baseline/0/1\.npy"):
        build_report(blank, make_study())
    assert read_outputs(blank) == {}


def test_metrics_are_finite_nested_floats(root: Path) -> None:
    metrics = read_metrics(root)
    groups = {"baseline", "fid", "floor", "generalisation", "held_out_detection", "phi_sweep"}
    groups |= {"judge_best_auc"}
    groups |= {"in_loss_detection", "memoryless_held_out_detection", "real_accuracy", "verdicts"}
    groups |= {"controls", "gaps", "matched_distortion", "perturbations", "transfer"}
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
    files = list((root / "models/gans/fool_all_1").glob("*/*/curves.csv"))
    assert len(files) == 9  # of three chains
    expected = pd.concat(map(pd.read_csv, files)).groupby("step", as_index=False).mean()
    plot = pd.read_csv(root / "reports/fabricated/plots/loss_curves.csv")
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
{% call show_figure("everybody", "A line.", "detections.csv") %}Of everybody.{% endcall %}
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
    assert (blank / "reports/fabricated/figures/everybody.svg").exists()
    expected = {"iteration_0": 9.0, "iteration_1": 18.0, "n_1": 12.0}
    assert read_metrics(blank)["everybody"] == expected
