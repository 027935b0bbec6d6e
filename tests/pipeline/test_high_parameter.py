"""A clone runs the smoke study of the high-parameter setting with `dvc repro`: all of its path."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clone_tools import clone_working_tree, list_stages_run
from knowledge_gaps.core.files import read_json
from study_tools import REPOSITORY

GANS, CLASSIFIERS = 5, 5  # instances in the study


@pytest.mark.slow
def test_study_of_stylegan2_and_large_classifiers(tmp_path: Path) -> None:
    pytest.importorskip("dicebear", reason="the drawn faces need the extra 'faces'")
    settings = REPOSITORY / "settings" / "smoke_stylegan2.yaml"
    clone = clone_working_tree(tmp_path / "clone", settings, KGAPS_TRACKING="off")
    assert len(list_stages_run(clone.run("dvc", "repro"))) == 26

    table = pd.read_csv(clone.root / "reports" / "smoke_stylegan2" / "detections.csv")
    assert len(table) == GANS * CLASSIFIERS
    in_loss = table[table.in_loss]
    assert set(zip(in_loss.generator_cohort, in_loss.classifier_cohort, strict=True)) == {
        ("fool_all_1", "iteration_0"),
        ("fools_inception", "inception_v3"),
        ("fools_three", "iteration_0"),
        ("fools_three", "inception_v3"),
        ("fools_three", "mobilenet_v2"),
    }
    metrics = set(pd.read_csv(clone.root / "reports" / "smoke_stylegan2" / "quality.csv").columns)
    assert "frechet_random_vgg_32" in metrics
    assert not {name for name in metrics if name.startswith("fid")}  # of Inception alone

    directory = clone.root / "models" / "classifiers" / "inception_v3" / "0" / "0"
    meta = read_json(directory / "meta.json")  # early stopping holds the last generator out
    assert [member["instance"] for member in meta["lineage"]["pool"]] == [0, 1]
    assert 2 <= meta["steps_done"] <= 4
    assert "accuracy_held_out" in pd.read_csv(directory / "curves.csv").columns
    page = (clone.root / "reports" / "smoke_stylegan2" / "index.html").read_text(encoding="utf-8")
    assert "on drawn faces (DiceBear, style open-peeps)" in page
    assert "ResNet-50 at 1/16 width" in page
    assert list_stages_run(clone.run("dvc", "repro")) == []
