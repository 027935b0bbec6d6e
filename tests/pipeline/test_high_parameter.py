"""A clone runs the smoke study of the high-parameter setting with `dvc repro`: all of its path."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from clone_tools import Clone, clone_working_tree, list_stages_run
from study_tools import REPOSITORY

STUDY_FILE = REPOSITORY / "settings" / "smoke_stylegan2.yaml"
GANS = 5  # instances in the study
CLASSIFIERS = 5

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    pytest.importorskip("dicebear", reason="the drawn faces need the extra 'faces'")
    root = tmp_path_factory.mktemp("faces") / "clone"
    clone = clone_working_tree(root, STUDY_FILE, KGAPS_TRACKING="off")
    assert len(list_stages_run(clone.run("dvc", "repro"))) == 23
    return clone


def test_every_classifier_scored_every_generator(clone: Clone) -> None:
    table = pd.read_csv(clone.root / "reports" / "detections.csv")
    assert len(table) == GANS * CLASSIFIERS
    in_loss = table[table.in_loss]
    fooled = set(zip(in_loss.generator_cohort, in_loss.classifier_cohort, strict=True))
    assert fooled == {
        ("fool_all_1", "iteration_0"),
        ("fools_inception", "inception_v3"),
        ("fools_three", "iteration_0"),
        ("fools_three", "inception_v3"),
        ("fools_three", "mobilenet_v2"),
    }


def test_only_inception_gives_fid(clone: Clone) -> None:
    columns = set(pd.read_csv(clone.root / "reports" / "quality.csv").columns)
    assert "frechet_random_vgg_32" in columns
    assert not {name for name in columns if name.startswith("fid")}


def test_early_stopping_holds_the_last_generator_out(clone: Clone) -> None:
    directory = clone.root / "models" / "classifiers" / "inception_v3" / "0"
    meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
    assert [member["instance"] for member in meta["lineage"]["pool"]] == [0, 1]
    assert 2 <= meta["steps_done"] <= 4
    assert "accuracy_held_out" in pd.read_csv(directory / "curves.csv").columns


def test_report_names_the_images_as_what_they_are(clone: Clone) -> None:
    page = (clone.root / "reports" / "index.html").read_text(encoding="utf-8")
    assert "on drawn faces (DiceBear, style open-peeps)" in page
    assert "ResNet-50 at 1/16 width" in page


def test_nothing_to_do_the_second_time(clone: Clone) -> None:
    assert list_stages_run(clone.run("dvc", "repro")) == []
