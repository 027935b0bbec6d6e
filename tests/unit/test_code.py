"""The code that a cohort depends on: all that trains it, and nothing that plays no part in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from knowledge_gaps.core.code_graph import PACKAGE, SOURCE
from knowledge_gaps.core.provenance import hash_source, name_modules
from knowledge_gaps.execution.code import (
    check_code,
    describe_training_code,
    find_changed_code,
    hash_note,
    write_training_code,
)

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.layout import get_code_file
from knowledge_gaps.study import PARAMS_FILE, Kind, load_study
from study_tools import SMOKE_FILE, change_params

_DESCRIBE = """
import json, sys
from pathlib import Path
from knowledge_gaps.study import Kind, load_study
from knowledge_gaps.study.graph import get_cohorts
from knowledge_gaps.execution.code import describe_training_code
study = load_study(Path(sys.argv[1]))
print(json.dumps({
    f"{kind}/{name}": describe_training_code(study, kind, name)
    for kind in Kind for name in get_cohorts(study, kind)
}))
"""
_LOOP = "def f(x):\n    return x + 1\n"

Notes = dict[str, dict[str, str]]


class Sources:
    """A copy of the package beside a study; `note` says what its cohorts depend on."""

    def __init__(self, study: Path, folder: Path) -> None:
        self._study, self.package = study, folder / PACKAGE
        ignored = shutil.ignore_patterns("__pycache__", "assets")
        shutil.copytree(SOURCE / PACKAGE, self.package, ignore=ignored)

    def note(self) -> Notes:
        environment = {**os.environ, "PYTHONPATH": str(self.package.parent)}
        finished = subprocess.run(
            [sys.executable, "-c", _DESCRIBE, str(self._study / PARAMS_FILE)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        notes: Notes = json.loads(finished.stdout)
        return notes

    def append(self, file: str, text: str) -> None:
        path = self.package / file
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    def add_architecture(self, name: str, text: str) -> None:
        path = self.package / "models" / "architectures" / f"{name}.py"
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def sources(smoke_root: Path, tmp_path: Path) -> Sources:
    return Sources(smoke_root, tmp_path / "src")


def find_changed(before: Notes, after: Notes) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


# --- what counts as code


@pytest.mark.parametrize(
    "text",
    [
        "# why\ndef f(x):\n    return x + 1  # because\n",
        '"""What it is."""\n\ndef f(x):\n    """Add."""\n    return x + 1\n',
        "def f(\n    x,\n):\n    return (\n        x + 1\n    )\n",
    ],
)
def test_words_and_line_breaks_are_no_code(text: str) -> None:
    assert hash_source(text) == hash_source(_LOOP)


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    return x + 2\n",
        "def f(x):\n    return x + 1\n\nf(1)\n",
        "def f(x, y=0):\n    return x + 1\n",
        "def f(x):\n    y = 'text'\n    return x + 1\n",
    ],
)
def test_code_is_code(text: str) -> None:
    assert hash_source(text) != hash_source(_LOOP)


def test_function_of_a_docstring_alone_has_a_hash() -> None:
    assert hash_source('def f():\n    """Nothing."""\n') == hash_source("def f():\n    pass\n")


def test_hash_is_the_same_for_all_versions_of_python() -> None:
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
    assert hash_source(text) == expected


# --- which cohorts depend on what


def test_note_has_the_loop_and_the_architectures_in_play(sources: Sources) -> None:
    notes = sources.note()
    baseline, fooling = notes["gans/baseline"], notes["gans/fool_all_1"]
    folder = f"{PACKAGE}/models/architectures"
    assert f"{folder}/dcgan.py" in baseline
    assert f"{folder}/cnn.py" not in baseline
    assert {f"{folder}/dcgan.py", f"{folder}/cnn.py"} <= set(fooling)
    for part in ("losses.py", "training/phases.py", "models/fast_layers.py", "study/recipes.py"):
        assert f"{PACKAGE}/{part}" in baseline
    assert not [path for path in fooling if "stylegan2" in path or "/report/" in path]


def test_comments_change_no_note(sources: Sources) -> None:
    before = sources.note()
    for file in ("losses.py", "training/loop.py", "models/architectures/dcgan.py"):
        sources.append(file, "\n# another word\n")
    assert sources.note() == before


def test_shared_code_concerns_all(sources: Sources) -> None:
    before = sources.note()
    sources.append("losses.py", "\n_MORE = 1\n")
    assert find_changed(before, sources.note()) == set(before)


def test_architecture_concerns_those_that_it_plays_a_part_in(sources: Sources) -> None:
    before = sources.note()
    sources.append("models/architectures/cnn.py", "\n_MORE = 1\n")
    # a baseline GAN meets no classifier
    assert find_changed(before, sources.note()) == set(before) - {"gans/baseline"}


def test_report_concerns_no_training(sources: Sources) -> None:
    before = sources.note()
    sources.append("report/build.py", "\n_MORE = 1\n")
    assert sources.note() == before


def test_new_architecture_concerns_only_who_uses_it(sources: Sources, smoke_root: Path) -> None:
    before = sources.note()
    # a module of its own beside it, and one that dots name
    sources.add_architecture("helper", "from ..frozen import FORMAT\n_MINE = FORMAT\n")
    sources.add_architecture("mine", "from . import helper\n_MORE = helper\n")
    assert sources.note() == before
    cohort = {"recipe": "mine", "instances": 1, "fools": "none", "phi": 0.0}
    recipe = load_study(smoke_root / PARAMS_FILE).gan_recipes["dcgan"].model_dump(mode="json")
    change_params(
        smoke_root, {"gan_recipes.mine": {**recipe, "architecture": "mine"}, "gans.new": cohort}
    )
    after = sources.note()
    assert find_changed(before, after) == {"gans/new"}
    folder = f"{PACKAGE}/models/architectures"
    assert {f"{folder}/mine.py", f"{folder}/helper.py"} <= set(after["gans/new"])
    assert f"{folder}/dcgan.py" not in after["gans/new"]
    sources.append("models/architectures/helper.py", "_MORE = 1\n")
    assert find_changed(after, sources.note()) == {"gans/new"}


# --- the note


def test_other_code_in_the_repository_than_runs_is_refused(smoke_root: Path) -> None:
    study = load_study(smoke_root / PARAMS_FILE)
    copy = smoke_root / "src" / PACKAGE
    shutil.copytree(SOURCE / PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    for file in ("losses.py", "report/build.py"):
        path = copy / file
        path.write_text(path.read_text(encoding="utf-8") + "\n# a word\n", encoding="utf-8")
    write_training_code(smoke_root, study)
    path = copy / "training" / "loop.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n_MORE = 1\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"src/knowledge_gaps/training/loop\.py: differs from the"):
        write_training_code(smoke_root, study)


def test_training_by_other_code_than_noted_is_refused(smoke_root: Path) -> None:
    study = load_study(smoke_root / PARAMS_FILE)
    code = describe_training_code(study, Kind.GANS, "baseline")
    known = smoke_root, "gans/baseline", code
    check_code(*known, is_trained=False)  # nothing noted: DVC does not train then
    write_training_code(smoke_root, study)
    check_code(*known, is_trained=False)
    path = get_code_file(smoke_root, "gans/baseline")
    assert hash_note(code) == hashlib.md5(path.read_bytes()).hexdigest()
    changed, gone = f"{PACKAGE}/losses.py", f"{PACKAGE}/training/old.py"
    write_json(path, {**read_json(path), changed: "0" * 64, gone: "0" * 64})
    assert find_changed_code(*known) == [changed, gone]
    message = "src/knowledge_gaps/losses.py: not the code that was noted when the study was checked"
    with pytest.raises(UserError, match=message):
        check_code(*known, is_trained=False)
    with pytest.raises(UserError, match="noted anew by `kgaps check` while gans/baseline was"):
        check_code(*known, is_trained=True)
    path.write_text("{", encoding="utf-8")
    assert find_changed_code(*known) == sorted(code)


def test_workers_have_all_code_before_they_start() -> None:
    study = load_study(SMOKE_FILE)
    names = name_modules(describe_training_code(study, Kind.GANS, "fool_all_1"))
    assert {f"{PACKAGE}.models.architectures.{name}" for name in ("dcgan", "cnn")} <= set(names)
    code = f"import sys; {'; '.join(f'import {name}' for name in names)}; print(*sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(names) <= set(finished.stdout.split())
