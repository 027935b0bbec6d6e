"""Params that are edited while a stage runs: its result is refused, other edits are let be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import RunKgaps
from knowledge_gaps import cli
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import Study, load_study
from knowledge_gaps.study.load import read_yaml
from knowledge_gaps.study.unchanged import list_params, require_unchanged
from study_tools import REPOSITORY, change_params

PIPELINE = REPOSITORY / "dvc.yaml"


@pytest.fixture
def root(smoke_root: Path) -> Path:
    shutil.copyfile(PIPELINE, smoke_root / "dvc.yaml")
    return smoke_root


@pytest.mark.parametrize(
    ("stage", "name", "keys"),
    [
        ("gans", "fool_all_1", ["study.seed", "gans.fool_all_1", "gan_recipes.dcgan"]),
        ("pools", "c0", ["pools.c0.instances"]),
        ("samples", None, ["study.seed", "evaluation.num_images"]),
        ("plan", None, []),
    ],
)
def test_keys_are_those_of_the_pipeline(
    smoke_root: Path, stage: str, name: str | None, keys: list[str]
) -> None:
    params = read_yaml(smoke_root / "params.yaml")
    assert list_params(read_yaml(PIPELINE), stage, name, params) == keys
    assert list_params(read_yaml(PIPELINE), "report", None, params) == list(params)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("gans.fool_all_1.phi", 2.5, "gans.fool_all_1"),
        ("gan_recipes.dcgan.steps", 7, "gan_recipes.dcgan"),
        ("study.seed", 3, "study.seed"),
    ],
)
def test_own_params_may_not_change(root: Path, key: str, value: float, said: str) -> None:
    change_params(root, {"gans.fool_all_1.phi": 1.5})
    with (
        pytest.raises(UserError, match=rf"{said} was changed while gans fool_all_1 ran"),
        require_unchanged(root, "gans", "fool_all_1"),
    ):
        change_params(root, {key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("gans.baseline.instances", 3), ("evaluation.num_images", 20)]
)
def test_params_of_other_stages_may_change(root: Path, key: str, value: int) -> None:
    with require_unchanged(root, "gans", "fool_all_1"):
        change_params(root, {key: value})


def test_cohort_that_is_gone_has_changed(root: Path) -> None:
    params = root / "params.yaml"
    text = params.read_text().replace("\n  fool_all_1: {recipe", "\n  other: {recipe")
    assert params.read_text() != text
    with (
        pytest.raises(UserError, match=r"gans\.fool_all_1 was changed"),
        require_unchanged(root, "gans", "fool_all_1"),
    ):
        params.write_text(text)


def test_layout_and_remarks_may_change(root: Path) -> None:
    params = root / "params.yaml"
    with require_unchanged(root, "report"):
        params.write_text("# a remark\n" + params.read_text())


def test_file_that_is_broken_meanwhile_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml"), require_unchanged(root, "report"):
        (root / "params.yaml").write_text("study: [")


def test_an_edit_while_the_stage_is_imported_counts(
    root: Path, run_kgaps: RunKgaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_and_edit(path: Path) -> Study:
        study = load_study(path)
        change_params(root, {"study.seed": 3})
        return study

    monkeypatch.setattr(cli, "load_study", load_and_edit)
    outcome = run_kgaps(root, "check")
    assert outcome.code == 2
    assert "params.yaml: study was changed while check ran" in outcome.err


def test_an_error_of_the_stage_is_the_one_that_is_told(root: Path) -> None:
    def fail() -> None:
        change_params(root, {"study.seed": 3})
        raise UserError("the stage's own")

    with pytest.raises(UserError, match="the stage's own"), require_unchanged(root, "report"):
        fail()
