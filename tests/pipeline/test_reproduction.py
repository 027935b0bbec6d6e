"""A clone runs the smoke study with `dvc repro`, twice from scratch, and then a cohort more."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from clone_tools import Clone, clone_working_tree, finish, list_stages_run
from knowledge_gaps.study import PARAMS_FILE, load_study
from study_tools import SMOKE_FILE, change_params, hash_tree

CLASSIFIERS = 2  # instances in the smoke study
GANS = 4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Clone]:
    """Return two clones in which `dvc repro` was run from scratch.

    The second one has tracking off and one worker: neither may change a byte. They run side by
    side, for most of their time goes into starting Python.
    """
    roots = (tmp_path_factory.mktemp(name) / "clone" for name in ("first", "second"))
    first = clone_working_tree(next(roots), SMOKE_FILE)
    others = {"KGAPS_TRACKING": "off", "KGAPS_WORKERS": "1"}
    second = clone_working_tree(next(roots), SMOKE_FILE, **others)
    processes = [clone.start("dvc", "repro") for clone in (first, second)]
    for process in processes:
        assert len(list_stages_run(finish(process))) == 18
    first.run("kgaps", "track", "sync")  # as `make repro` does
    return first, second


@pytest.fixture(scope="module")
def first(clones: tuple[Clone, Clone]) -> Clone:
    return clones[0]


def test_from_scratch_again_byte_identical(clones: tuple[Clone, Clone]) -> None:
    first, second = clones
    for name in ("models", "reports", "data"):
        expected = hash_tree(first.root / name)
        assert len(expected) > 3
        assert hash_tree(second.root / name) == expected
    lock = (first.root / "dvc.lock").read_bytes()
    assert (second.root / "dvc.lock").read_bytes() == lock
    assert b"gans@fool_all_1" in lock
    assert not (second.root / "mlflow.db").exists()


def test_nothing_runs_again_and_nothing_is_left_untracked(first: Clone) -> None:
    assert list_stages_run(first.run("dvc", "repro")) == []
    assert "up to date" in first.run("dvc", "status")
    listed = first.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    untracked = {line[3:] for line in listed if line.startswith("??")}
    folders = ("data", "models/classifiers", "models/gans", "models/pools")
    known = {"dvc.lock", *(f"{folder}/.gitignore" for folder in folders)}
    assert {name for name in untracked if not name.startswith("reports/")} <= known


def test_sync_rebuilds_mlflow_once(first: Clone) -> None:
    (first.root / "mlflow.db").unlink()
    for outcome in ("created", "unchanged"):
        expected = f"{GANS + CLASSIFIERS} runs {outcome}, {CLASSIFIERS} versions {outcome}"
        assert first.run("kgaps", "track", "sync") == f"MLflow: {expected}\n"


def add_architecture(root: Path) -> None:
    """Add a GAN's file, with a recipe; and say something in code that all trainings share."""
    package = root / "src" / "knowledge_gaps"
    folder = package / "models" / "architectures"
    text = (folder / "dcgan.py").read_text(encoding="utf-8").replace('"dcgan"', '"mine"')
    (folder / "mine.py").write_text(text, encoding="utf-8")
    with (package / "losses.py").open("a", encoding="utf-8") as losses:
        losses.write("# a remark\n")
    recipe = load_study(root / PARAMS_FILE).gan_recipes["dcgan"].model_dump(mode="json")
    change_params(root, {"gan_recipes.mine": {**recipe, "architecture": "mine"}})


def test_new_cohort_of_a_new_architecture_runs_only_what_is_new(
    clones: tuple[Clone, Clone],
) -> None:
    first, second = clones
    add_architecture(second.root)
    entry = {"recipe": "mine", "instances": 1, "fools": "c0", "phi": 0.1, "fooling": "weighted"}
    change_params(second.root, {"gans.phi_1e-1": entry})
    expected = hash_tree(first.root / "models" / "gans")
    output = second.run("dvc", "repro")
    analyses = ["agreement", "attributions", "audit", "check", "controls", "detections"]
    rest = ["gans@phi_1e-1", "judges", "perturbations", "quality", "report", "samples", "spectra"]
    assert sorted(list_stages_run(output)) == [*analyses, *rest]
    assert f"samples: computed 1 row, {GANS} cached" in output
    assert f"detections: computed {CLASSIFIERS} rows, {GANS * CLASSIFIERS} cached" in output
    found = hash_tree(second.root / "models" / "gans")
    kept = {name for name in found if not name.startswith("phi_1e-1/")}
    assert kept ^ set(expected) <= {".gitignore"}
    assert "phi_1e-1" in (second.root / "reports" / "smoke" / "detections.csv").read_text()


def test_one_chain_more_trains_that_chain_alone(clones: tuple[Clone, Clone]) -> None:
    """As where the results were pulled: the clone has none of their trainings."""
    _, clone = clones
    shutil.rmtree(clone.root / ".kgaps" / "trainings")
    folders = [*clone.root.glob("models/*/*/0"), *clone.root.glob("data/samples/*/0")]
    assert len(folders) >= 5
    expected = {folder: hash_tree(folder) for folder in folders}
    change_params(clone.root, {"study.chains": 2})
    stages = list_stages_run(clone.run("dvc", "repro"))
    assert {"gans@baseline", "classifiers@iteration_0", "gans@fool_all_1", "report"} <= {*stages}
    assert "prepare" not in stages
    assert {folder: hash_tree(folder) for folder in folders} == expected
    assert all(list((folder.parent / "1").iterdir()) for folder in folders)
    trained = (clone.root / ".kgaps" / "trainings").glob("*/*/progress.jsonl")
    assert {path.parent.name.partition("-")[0] for path in trained} == {"1"}
    assert list_stages_run(clone.run("dvc", "repro")) == []


def show_experiments(clone: Clone) -> dict[str, Any]:
    shown = json.loads(clone.run("dvc", "exp", "show", "--json").splitlines()[-1])
    return {entry["name"]: entry["revs"][0] for entry in shown[1]["experiments"]}


def test_sweep_is_in_dvc_and_mlflow_and_is_done_once(first: Clone, tmp_path: Path) -> None:
    """Two values of phi: two experiments, each with runs of its own; nothing the second time."""
    kgaps = ("kgaps", "sweep", "gans.fool_all_1.phi=0.5,2")
    said = first.run(*kgaps)
    names = re.findall(r"^sweep: (smoke-phi-\S+-[0-9a-f]{8})$", said, re.MULTILINE)
    shown = show_experiments(first)
    assert sorted(shown) == sorted(names)
    phis = {}
    for name in names:
        params = shown[name]["data"]["params"]["params.yaml"]["data"]
        assert params["study"]["name"] == name
        phis[name] = params["gans"]["fool_all_1"]["phi"]
        assert shown[name]["data"]["metrics"][f"reports/{name}/metrics.json"]["data"]
    assert sorted(phis.values()) == [0.5, 2]

    # a copy: this process still has the file open that was there before `track sync` was tested
    database = shutil.copy2(first.root / "mlflow.db", tmp_path / "mlflow.db")
    client = MlflowClient(f"sqlite:///{database}")
    [experiment] = client.search_experiments(filter_string="name = 'knowledge-gaps'")
    for name in names:
        runs = client.search_runs([experiment.experiment_id], f"tags.`kgaps.study` = '{name}'")
        assert {run.info.status for run in runs} == {"FINISHED"}
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        assert len(children) == GANS + CLASSIFIERS
        assert all(run.data.metrics for run in children)
        assert str(float(phis[name])) in {run.data.params.get("phi") for run in children}
        assert all(Path(run.info.artifact_uri.removeprefix("file://")).exists() for run in runs)
    assert not list((first.root / ".kgaps" / "experiments").glob("*"))

    assert "sweep: " not in first.run(*kgaps)
    again = show_experiments(first)
    assert {name: again[name]["rev"] for name in again} == {n: shown[n]["rev"] for n in shown}
