"""The studies in settings/: all valid, and one command writes one to params.yaml."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knowledge_gaps import __version__
from knowledge_gaps.study import load_study
from knowledge_gaps.study.presets import list_presets
from study_tools import REPOSITORY, SMOKE_FILE

RunKgaps = Callable[..., Any]


@pytest.fixture
def settings_root(tmp_path: Path) -> Path:
    """Return a folder with the repository's settings and params.yaml."""
    shutil.copytree(REPOSITORY / "settings", tmp_path / "settings")
    shutil.copyfile(REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_params_are_the_reduced_study() -> None:
    reduced = REPOSITORY / "settings" / "mnist_reduced.yaml"
    assert (REPOSITORY / "params.yaml").read_bytes() == reduced.read_bytes()


@pytest.mark.parametrize("name", list_presets(REPOSITORY))
def test_study_is_valid_and_named_as_its_file(name: str) -> None:
    study = load_study(REPOSITORY / "settings" / f"{name}.yaml")
    assert study.study.name == name


def test_list_names_every_study(settings_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(settings_root, "settings", "list")
    files = sorted(path.stem for path in (settings_root / "settings").iterdir())
    assert "smoke" in files
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == files
    purpose = "The whole path in seconds: what the tests run."
    assert lines[files.index("smoke")] == f"{'smoke':{max(map(len, files))}}  {purpose}"
    [bf16] = [line for line in lines if line.startswith("mnist_bf16 ")]
    assert bf16.endswith("do its findings stand? reports/mnist_bf16 holds the answer of one run.")


def test_list_names_a_study_without_a_comment(settings_root: Path, run_kgaps: RunKgaps) -> None:
    (settings_root / "settings" / "own.yaml").write_text("study: {}\n")
    assert "own" in run_kgaps(settings_root, "settings", "list").out.splitlines()


def test_check_says_what_a_study_trains(smoke_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(smoke_root, "check")
    cohorts = "2 GAN cohorts (4 instances), 1 classifier cohort (2 instances)"
    assert (outcome.code, outcome.out) == (0, f"params.yaml: study smoke: {cohorts}\n")


def test_version(tmp_path: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(tmp_path, "--version")
    assert (outcome.code, outcome.out) == (0, f"kgaps {__version__}\n")


def test_reference_of_keys_is_as_described(tmp_path: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(tmp_path, "settings", "describe")
    assert outcome.out == (REPOSITORY / "docs" / "params.md").read_text(encoding="utf-8")


def test_use_writes_params(settings_root: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(settings_root, "settings", "use", "smoke")
    assert outcome.code == 0
    assert (settings_root / "params.yaml").read_bytes() == SMOKE_FILE.read_bytes()


def test_use_keeps_changes_that_are_nowhere_else(settings_root: Path, run_kgaps: RunKgaps) -> None:
    params = settings_root / "params.yaml"
    params.write_text(params.read_text() + "# a remark\n")
    before = params.read_bytes()
    outcome = run_kgaps(settings_root, "settings", "use", "smoke")
    assert outcome.code == 2
    assert "neither committed nor in settings/" in outcome.err
    assert params.read_bytes() == before
    assert run_kgaps(settings_root, "settings", "use", "smoke", "--force").code == 0
    assert params.read_bytes() == SMOKE_FILE.read_bytes()


def test_use_writes_over_what_is_committed(settings_root: Path, run_kgaps: RunKgaps) -> None:
    params = settings_root / "params.yaml"
    params.write_text(params.read_text() + "# a remark\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test"]
    for command in (["init", "-q"], ["add", "params.yaml"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=settings_root, check=True)
    assert run_kgaps(settings_root, "settings", "use", "smoke").code == 0
    assert params.read_bytes() == SMOKE_FILE.read_bytes()


def test_list_is_of_a_repository(tmp_path: Path, run_kgaps: RunKgaps) -> None:
    outcome = run_kgaps(tmp_path, "settings", "list")
    assert outcome.code == 2
    assert outcome.err == "kgaps: settings/: missing; kgaps runs in the repository's root\n"


def test_use_refuses_an_unknown_name(settings_root: Path, run_kgaps: RunKgaps) -> None:
    before = (settings_root / "params.yaml").read_bytes()
    outcome = run_kgaps(settings_root, "settings", "use", "smoky")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "'smoky'" in outcome.err
    assert "smoke" in outcome.err.partition("known:")[2]
    assert (settings_root / "params.yaml").read_bytes() == before


def test_use_refuses_an_invalid_study(settings_root: Path, run_kgaps: RunKgaps) -> None:
    path = settings_root / "settings" / "broken.yaml"
    path.write_text(SMOKE_FILE.read_text().replace("seed: 0", "seed: -1"))
    before = (settings_root / "params.yaml").read_bytes()
    outcome = run_kgaps(settings_root, "settings", "use", "broken")
    assert outcome.code == 2
    assert "study.seed" in outcome.err
    assert "broken.yaml" in outcome.err
    assert (settings_root / "params.yaml").read_bytes() == before
