"""dvc.yaml under DVC: what an edit makes due, the size of the lock, files of editors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dvc.repo import Repo

from knowledge_gaps.cli import app
from knowledge_gaps.execution import fingerprint
from knowledge_gaps.execution.fingerprint import write_fingerprints
from knowledge_gaps.study import PARAMS_FILE, load_study
from knowledge_gaps.study.schema import WRITTEN
from study_tools import REPOSITORY, SMOKE_FILE, change_params

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
DATASET = {"train": "0" * 64, "train_dev": "0" * 64}  # as without a dev split
GANS, CLASSIFIERS = {"gans@baseline", "gans@fool_all_1"}, {"classifiers@iteration_0"}
EVALUATION = {"samples", "detections", "perturbations", "quality", "judges", "spectra"}
EVALUATION |= {"attributions", "audit", "agreement", "controls"}
# of the section evaluation, for DVC refuses keys that are left to their defaults
TAKES_SECTION = {"controls", "perturbations", "quality"}
OF_REALS = {"quality", "spectra", "audit", "judges", "perturbations", "controls"}
OF_CLASSIFIERS = EVALUATION - {"quality", "spectra", "audit", "judges", "samples"}


def make_done(root: Path, study: Path) -> Path:
    """Make a repository in which DVC takes all of a study for done; outputs are placeholders."""
    (root / "src" / "knowledge_gaps").mkdir(parents=True)
    (root / "src" / "knowledge_gaps" / "losses.py").touch()
    shutil.copytree(REPOSITORY / "data" / "mnist_reduced", root / "data" / "mnist_reduced")
    shutil.copyfile(study, root / PARAMS_FILE)
    for name in ("dvc.yaml", "findings.yaml", ".dvcignore"):
        shutil.copyfile(REPOSITORY / name, root / name)
    write_fingerprints(root, load_study(root / PARAMS_FILE))
    with chdir(root), Repo.init(no_scm=True) as repo:
        for out in (Path(out.def_path) for out in repo.index.outs):
            path = root / out if out.suffix else root / out / "part"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (root / "data" / "prepared" / "test.npy").touch()
        (root / "data" / "prepared" / "dataset.json").write_text(json.dumps(DATASET))
        repo.commit(force=True)
    return root


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_done(tmp_path_factory.mktemp("done"), SMOKE_FILE)


@pytest.fixture
def root(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "study"))


def list_due(root: Path) -> set[str]:
    with chdir(root), Repo() as repo:
        return set(repo.status())


def check(root: Path) -> None:
    write_fingerprints(root, load_study(root / PARAMS_FILE))


def test_nothing_is_due_when_all_is_done(root: Path) -> None:
    check(root)
    assert list_due(root) == set()


COHORT = {"recipe": "dcgan", "instances": 1, "fools": "c0", "phi": 0.5}


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"gan_recipes.dcgan.steps": 25}, GANS),
        ({"classifier_recipes.cnn.model.channels": [4, 8]}, {*CLASSIFIERS, "audit"}),
        ({"gans.fool_all_1.phi": 2.0}, {"gans@fool_all_1"}),
        ({"gans.phi_5": COHORT}, {"gans@phi_5"}),
        ({"pools.c0.instances": [1]}, {"pools@c0"}),
        ({"study.seed": 1}, {*GANS, *CLASSIFIERS, "samples", "audit", "judges"}),
        ({"evaluation.judges": ["steps"]}, TAKES_SECTION),
        ({"data.num_test": 100}, {"prepare"}),
        ({"data.num_dev": 100}, {"prepare"}),
        ({"report.phi_sweep": ["fool_all_1"]}, set()),
        # all but one have all of their rows in their caches
        ({"evaluation.perturbations": []}, TAKES_SECTION),
    ],
)
def test_edit_makes_due_what_depends_on_it(
    root: Path, changes: dict[str, Any], due: set[str]
) -> None:
    change_params(root, changes)
    assert list_due(root) == {"check", "report", *due}


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"evaluation.judges": ["steps"]}, {*TAKES_SECTION, "judges"}),
        ({"evaluation.num_images": 40}, {"prepare", *EVALUATION - {"detections"}}),
        ({"pools.baseline_1.instances": [1]}, {"pools@baseline_1", "judges"}),
    ],
)
def test_edit_makes_due_what_a_fingerprint_says(
    root: Path, changes: dict[str, Any], due: set[str]
) -> None:
    change_params(root, changes)
    check(root)
    assert list_due(root) == {"check", "report", *due}


def test_other_dev_reals_make_classifiers_due(root: Path) -> None:
    """Those that read none are found finished."""
    described = json.dumps({**DATASET, "train_dev": "1" * 64})
    (root / "data" / "prepared" / "dataset.json").write_text(described)
    assert list_due(root) >= CLASSIFIERS
    assert not list_due(root) & GANS


@pytest.mark.parametrize(
    ("file", "due"),
    [
        ("models/pools/none.json", {"check", "pools@baseline_1", "pools@c0", "gans@baseline"}),
        ("models/gans/baseline/part", {"gans@baseline", "pools@baseline_1", "samples", "quality"}),
        ("models/pools/baseline_1.json", {"pools@baseline_1", *CLASSIFIERS}),
        ("models/classifiers/iteration_0/part", {*CLASSIFIERS, "pools@c0", *OF_CLASSIFIERS}),
        ("models/pools/c0.json", {"pools@c0", "gans@fool_all_1"}),
        ("data/prepared/dataset.json", {"prepare", *GANS, *CLASSIFIERS, *OF_REALS}),
        ("data/samples/part", EVALUATION),
    ],
)
def test_changed_file_makes_due_what_writes_and_what_reads_it(
    root: Path, file: str, due: set[str]
) -> None:
    (root / file).write_text('{"train": "other"}')
    assert list_due(root) - {"report"} == due


def test_changed_torch_makes_cohorts_due(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "get_versions", lambda _: {"torch": "9.9.9"})
    check(root)
    assert list_due(root) == {"check", *GANS, *CLASSIFIERS}


def test_changed_code_makes_its_users_due_and_a_docstring_nobody(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "src" / "knowledge_gaps" / "losses.py").write_text('"""A sentence."""')
    check(root)
    assert list_due(root) == {"check", "report"}  # DVC hashes their bytes
    monkeypatch.setattr(fingerprint, "hash_code", lambda places, architectures=(): str(places))
    check(root)
    assert list_due(root) == {"check", "report", "prepare", *GANS, *CLASSIFIERS, *EVALUATION}


def test_removed_cohort_makes_evaluations_due(root: Path) -> None:
    change_params(root, {"gans.phi_5": COHORT})
    check(root)
    assert list_due(root) == {"check", "report", "gans@phi_5", *EVALUATION}


@pytest.mark.parametrize("name", [".#losses.py", ".losses.py.swp", "losses.py~", ".DS_Store"])
def test_files_of_editors_change_no_hash(root: Path, name: str) -> None:
    path = root / "src" / "knowledge_gaps" / name
    path.symlink_to("someone@host.1234") if name.startswith(".#") else path.write_text("swap")
    assert list_due(root) == set()


def test_clone_that_converts_line_ends_has_the_same_bytes(tmp_path: Path) -> None:
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    for name in (".gitattributes", PARAMS_FILE, "dvc.yaml"):
        shutil.copyfile(REPOSITORY / name, origin / name)
    identity = ["-c", "user.name=test", "-c", "user.email=test"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", *command], cwd=origin, check=True)
    subprocess.run(
        ["git", "clone", "-q", "-c", "core.autocrlf=true", str(origin), str(clone)], check=True
    )
    for name in (PARAMS_FILE, "dvc.yaml"):
        assert (clone / name).read_bytes() == (origin / name).read_bytes()


def test_lock_of_the_reduced_study_is_short(tmp_path: Path) -> None:
    root = make_done(tmp_path, REPOSITORY / "settings" / "mnist_reduced.yaml")
    assert len((root / "dvc.lock").read_text().splitlines()) < 1500


@pytest.mark.parametrize("stage", STAGES)
def test_command_is_the_stage_of_that_name(stage: str) -> None:
    entry = STAGES[stage].get("do", STAGES[stage])
    assert entry["cmd"] == f"kgaps {stage}" + (" ${key}" if "foreach" in STAGES[stage] else "")
    assert stage in getattr(typer.main.get_command(app), "commands", {})
    assert not re.search(r"cuda|gpu|worker|cpu|accelerate", entry["cmd"])
    for out in (next(iter(out)) if isinstance(out, dict) else out for out in entry["outs"]):
        assert any(Path(out).is_relative_to(written) for written in WRITTEN), out
