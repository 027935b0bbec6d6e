"""The report of a study of another kind: colour, StyleGAN2, three architectures, no classes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fabrication import NUM_IMAGES, REPOSITORY, fabricate_root, write_attributions
from knowledge_gaps.core.layout import get_reports
from knowledge_gaps.report.build import build_report
from knowledge_gaps.study import load_study

SHAPE = (3, 32, 32)
TITLES = tuple(f"{name} at 1/8 width" for name in ("ResNet-50", "Inception-v3", "MobileNetV2"))
STUDY = load_study(REPOSITORY / "settings/faces_reduced.yaml")
REPORTS = get_reports(Path(), STUDY.study.name)
CLASSIFIERS = ("iteration_0", "inception_v3", "mobilenet_v2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    reals = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, *SHAPE), dtype=np.uint8)
    fabricate_root(folder, STUDY, reals)
    reports = folder / REPORTS
    write_attributions(folder, reports, "fool_all_1", "iteration_0", (0, 1, 2), SHAPE)
    build_report(folder, STUDY)
    return folder


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return re.sub(r"data:image[^\"]*", "", (root / REPORTS / "index.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def metrics(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / REPORTS / "metrics.json").read_text())
    return found


def find_section(page: str, name: str) -> str:
    (found,) = re.findall(rf'(?s)<section id="{name}">.*?</section>', page)
    return str(found)


def test_every_figure_is_drawn_and_shown(root: Path, page: str) -> None:
    charts = {path.stem for path in (root / REPORTS / "figures").glob("*.svg")}
    readings = {"architectures", "generalisation", "iterations", "multi_instance", "truncation"}
    others = {"attribution_agreement", "loss_curves", "perturbations", "scalar_curves", "spectra"}
    others |= {"controls"}
    assert charts == readings | others
    assert page.count("<img ") == len(list((root / REPORTS / "figures").glob("*.png")))


def test_page_names_the_setting_and_no_other(page: str) -> None:
    run = find_section(page, "run")
    assert "drawn faces (DiceBear, style open-peeps)" in run
    assert "They are no photographs" in run
    assert "px with 3 channels" in run
    assert all(title in run for title in TITLES)
    # findings and deviations quote the paper, and so do the captions of its tables; a judge is
    # called grey levels whatever the images are
    own_words = re.sub(r"(?s)<section id=.(findings|deviations|judges).*?</section>", "", page)
    quotes = r"The paper's table[^<]*|the paper's form for MNIST|[Tt]he paper \(StyleGAN2 on FFHQ"
    own_words = re.sub(quotes, "", own_words)
    names = r"MNIST|FFHQ|DCGAN|LeNet|digit|grey|\bCNN\b|[Cc]lass entropy in nats"
    assert not re.findall(names, own_words)


def test_distance_is_never_called_fid(metrics: dict[str, Any], page: str) -> None:
    quality = find_section(page, "quality")
    assert "Fréchet ↓" in quality
    assert "FID" not in quality
    assert "frechet_random_vgg_4k" in quality
    assert "tells no classes apart" in quality
    assert not re.search("class_entropy|missing_classes", quality)
    assert set(metrics["frechet"]) == {"baseline", "fool_all_1", "fool_all_2"}
    assert "fid" not in json.dumps(metrics)
    assert metrics["floor"]["frechet_random_vgg_4k"] == 0.85


def test_architectures_are_a_table_beside_the_papers(
    root: Path, metrics: dict[str, Any], page: str
) -> None:
    section = find_section(page, "architectures")
    rows = re.findall(r'<th scope="row" class="text">([^<]+)<br>', section)
    assert rows == [*TITLES, "mean Fréchet distance"]
    # the instance in the loss is left out of the diagonal
    counts = ["3 2", "2 3", "2 3", "3 3", "2 2", "2 3", "3 4", "2 4", "2 3"]
    assert re.findall(r"(\d \d):", section.replace(" \N{MULTIPLICATION SIGN} ", " ")) == counts
    assert "0.74 ± 0.12" in section  # of the paper's table A
    rates = metrics["architectures"]
    assert {name: len(columns) for name, columns in rates.items()} == dict.fromkeys(CLASSIFIERS, 3)
    cohorts = "classifier_cohort == 'mobilenet_v2' and generator_cohort == 'fools_mobilenet'"
    table = pd.read_csv(root / REPORTS / "detections.csv").query(cohorts)
    held_out = table[table.classifier_instance > 0].detection_rate
    assert rates["mobilenet_v2"]["fools_mobilenet"] == pytest.approx(held_out.mean(), abs=1e-6)


def test_generalisation_has_a_table_for_each_architecture(
    root: Path, metrics: dict[str, Any], page: str
) -> None:
    section = find_section(page, "generalisation")
    assert [section.index(title) for title in TITLES] == sorted(map(section.index, TITLES))
    assert section.count("<table") == 3
    numbers = {name: row["num_generators"] for name, row in metrics["generalisation"].items()}
    sweeps = [sweep.classifiers for sweep in STUDY.report.generalisation]
    assert numbers == {name: float(n) for one, two in sweeps for name, n in ((one, 1), (two, 3))}
    rows = (root / REPORTS / "plots/generalisation.csv").read_text().splitlines()[1:]
    assert {row.split(",")[1] for row in rows} == set(numbers)


def test_claims_are_those_of_this_setting(root: Path, page: str) -> None:
    claims = json.loads((root / REPORTS / "verdicts.json").read_text())["claims"]
    found = {claim["id"]: claim["study"] for claim in claims}
    asked = {name for name, answer in found.items() if answer["verdict"] != "not asked here"}
    # three iterations, of which the last has no generator that its classifiers did not learn
    # from; classifiers of one and of three generators; at most two in a loss
    assert asked == {"5a", "5b", "6", "9a", "9d", "9e", "10a", "10b", "11"}
    assert found["9e"]["effect_words"].startswith("frechet: ")
    assert found["9e"]["verdict"] == found["5b"]["verdict"] == "void"
    assert found["9e"]["reason"] == "the margin is of mnist in lenet features"
    words = {answer["verdict"] for answer in found.values()}
    assert words == {"undecided", "void", "not asked here"}  # of one chain
    assert len(found["6"]["left"]) == 6
    assert len(found["6"]["right"]) == 3
    assert "The margins are borrowed from another setting" in find_section(page, "findings")
