"""The studies in settings/: one command lists them, one writes one to params.yaml."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import RunKgaps
from knowledge_gaps import __version__
from study_tools import REPOSITORY, SMOKE_FILE


@pytest.fixture
def settings_root(tmp_path: Path) -> Path:
    """Return a folder with the repository's settings and params.yaml."""
    shutil.copytree(REPOSITORY / "settings", tmp_path / "settings")
    shutil.copyfile(REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_params_are_the_reduced_study() -> None:
    reduced = REPOSITORY / "settings" / "mnist_reduced.yaml"
    assert (REPOSITORY / "params.yaml").read_bytes() == reduced.read_bytes()


def test_list_names_every_study(settings_root: Path, run_kgaps: RunKgaps) -> None:
    elsewhere = run_kgaps(REPOSITORY / "docs", "settings", "list")
    assert elsewhere.code == 2
    assert elsewhere.err == "kgaps: settings/: missing; kgaps runs in the repository's root\n"
    (settings_root / "settings" / "own.yaml").write_text("study: {}\n")
    outcome = run_kgaps(settings_root, "settings", "list")
    files = sorted(path.stem for path in (settings_root / "settings").iterdir())
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == files
    assert lines[files.index("own")] == "own"
    purpose = "The whole path in seconds: what the tests run."
    assert lines[files.index("smoke")] == f"{'smoke':{max(map(len, files))}}  {purpose}"
    [long] = [line for line in lines if line.startswith("mnist_study ")]
    assert long.endswith("every experiment of the paper that DCGANs can speak to.")


def test_version_and_reference_of_keys(tmp_path: Path, run_kgaps: RunKgaps) -> None:
    assert run_kgaps(tmp_path, "--version").out == f"kgaps {__version__}\n"
    described = run_kgaps(tmp_path, "settings", "describe")
    assert described.out == (REPOSITORY / "docs" / "params.md").read_text(encoding="utf-8")


def test_use_writes_params_but_not_over_changes(settings_root: Path, run_kgaps: RunKgaps) -> None:
    params, smoke = settings_root / "params.yaml", SMOKE_FILE.read_bytes()
    assert run_kgaps(settings_root, "settings", "use", "smoke").code == 0
    assert params.read_bytes() == smoke
    params.write_bytes(own := smoke + b"# a remark\n")
    outcome = run_kgaps(settings_root, "settings", "use", "smoke")
    assert outcome.code == 2
    assert "has changes that are neither in settings/ nor committed" in outcome.err
    assert params.read_bytes() == own
    assert run_kgaps(settings_root, "settings", "use", "smoke", "--force").code == 0
    assert params.read_bytes() == smoke
    params.write_bytes(own)  # what is committed is not lost
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "own params")):
        subprocess.run(["git", *command], cwd=settings_root, check=True)
    assert run_kgaps(settings_root, "settings", "use", "smoke").code == 0
    assert params.read_bytes() == smoke


@pytest.mark.parametrize(
    ("name", "words"),
    [("smoky", ("'smoky'", "known:", "smoke")), ("broken", ("study.seed", "broken.yaml"))],
)
def test_use_refuses_what_is_no_study(
    settings_root: Path, run_kgaps: RunKgaps, name: str, words: tuple[str, ...]
) -> None:
    path = settings_root / "settings" / "broken.yaml"
    path.write_text(SMOKE_FILE.read_text().replace("seed: 0", "seed: -1"))
    before = (settings_root / "params.yaml").read_bytes()
    outcome = run_kgaps(settings_root, "settings", "use", name)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert all(word in outcome.err for word in words)
    assert (settings_root / "params.yaml").read_bytes() == before
