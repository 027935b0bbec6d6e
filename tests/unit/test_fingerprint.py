"""Fingerprints: of the code that trains a cohort, and of nothing that plays no part in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from knowledge_gaps.core import fingerprint
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.fingerprint import SOURCE, hash_module
from knowledge_gaps.core.layout import CODE_FINGERPRINTS
from knowledge_gaps.execution.fingerprint import (
    check_fingerprint,
    compute_fingerprint,
    write_fingerprints,
)
from knowledge_gaps.study import PARAMS_FILE, Kind, load_study
from knowledge_gaps.study.graph import get_cohorts
from study_tools import SMOKE_FILE

_LOOP = "def f(x):\n    return x + 1\n"
COHORTS = {"gans/baseline", "gans/fool_all_1", "classifiers/iteration_0"}


def hash_text(folder: Path, text: str) -> str:
    path = folder / "module.py"
    path.write_text(text, encoding="utf-8")
    hash_module.cache_clear()
    return hash_module(path)


def compute_all() -> dict[str, str]:
    study = load_study(SMOKE_FILE)
    hash_module.cache_clear()
    return {
        f"{kind}/{name}": compute_fingerprint(study, kind, name)
        for kind in Kind
        for name in get_cohorts(study, kind)
    }


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        ("# why\ndef f(x):\n    return x + 1  # because\n", True),
        ('"""What."""\n\ndef f(x):\n    """Add."""\n    return x + 1\n', True),
        ("def f(\n    x,\n):\n    return (\n        x + 1\n    )\n", True),
        ("def f(x):\n    return x + 2\n", False),
        ("def f(x, y=0):\n    return x + 1\n", False),
        ("def f(x):\n    y = 'text'\n    return x + 1\n", False),
    ],
)
def test_comments_and_docstrings_are_no_code(tmp_path: Path, text: str, is_same: bool) -> None:
    assert (hash_text(tmp_path, text) == hash_text(tmp_path, _LOOP)) == is_same


def test_hash_is_the_same_for_all_versions_of_python(tmp_path: Path) -> None:
    text = """
def f(x: int | None, *rest: str) -> str:
    try:
        return f"{x!r:>{len(rest)}} {'a'} {{}}" + 'b' "c"
    except* (ValueError, TypeError):
        return f'{f"{x}"}'
class C: ...
"""
    # by 3.11, 3.12 and 3.13
    expected = "6b59f53f8bff0169ba16c46b8b430b232624bb92dfd5f07f7cd7a52afe96bcf0"
    assert hash_text(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("training/loop.py", "\n_MORE = 1\n", COHORTS),
        ("data/images.py", "\n_MORE = 1\n", COHORTS),
        ("losses.py", "\n_MORE = 1\n", COHORTS),
        ("training/loop.py", '\n# a comment\n"""Words."""\n', set()),
        ("models/architectures/dcgan.py", "\n_MORE = 1\n", COHORTS),
        # the baseline is trained against no classifier
        ("models/architectures/cnn.py", "\n_MORE = 1\n", COHORTS - {"gans/baseline"}),
        ("models/architectures/mine.py", "_NEW = 1\n", set()),
        ("execution/cohort.py", "\n_MORE = 1\n", set()),
    ],
)
def test_code_that_decides_bytes_makes_cohorts_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, changed: set[str]
) -> None:
    package = tmp_path / "package"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    monkeypatch.setattr(fingerprint, "SOURCE", package)
    before, path = compute_all(), package / file
    path.write_text((path.read_text() if path.exists() else "") + text, encoding="utf-8")
    after = compute_all()
    assert {cohort for cohort in before if before[cohort] != after[cohort]} == changed


def test_another_torch_makes_all_cohorts_due_and_trains_none(
    smoke_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, file = load_study(smoke_root / PARAMS_FILE), smoke_root / CODE_FINGERPRINTS
    found = compute_fingerprint(study, Kind.GANS, "baseline")
    check_fingerprint(smoke_root, "gans/baseline", found)  # nothing is recorded yet
    write_fingerprints(smoke_root, study)
    check_fingerprint(smoke_root, "gans/baseline", found)
    before = read_json(file)
    monkeypatch.setattr(fingerprint.metadata, "version", lambda name: "9.9.9")
    write_fingerprints(smoke_root, study)
    after = read_json(file)
    for kind, _, name in (cohort.partition("/") for cohort in COHORTS):
        assert after[kind][name] != before[kind][name]
        assert "9.9.9" in after[kind][name]
    with pytest.raises(UserError, match=r"^gans/baseline: .*torch 9\.9\.9"):
        check_fingerprint(smoke_root, "gans/baseline", found)
