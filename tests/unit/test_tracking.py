"""Tracking on a fabricated study: MLflow is rebuilt from files, and never costs a training."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import hash_file, write_json, write_text
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.tracking.live import CohortTracker
from knowledge_gaps.tracking.server import make_database, tracking_uri
from knowledge_gaps.tracking.sync import sync_study

CLASSIFIERS, GANS = ("classifiers", "iteration_0"), ("gans", "fool_all_1")
COHORTS = [GANS, CLASSIFIERS]
MODEL = "kgaps.tiny.iteration_0"
STEPS = (10, 20, 30)
FIRST = Instance(0, 0)
SIDES = ("generator", "classifier")
REFUSED = "http://user:se@cret@127.0.0.1:9/path?token=secret"  # nobody listens on the discard port


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    make_database(path)
    return path


@pytest.fixture
def root(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fabricate a study of two classifiers, and two GANs trained against classifier 0."""
    for name in ("MLFLOW_TRACKING_URI", "KGAPS_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(database, tmp_path / "mlflow.db")
    weights = make_cohort(tmp_path, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_2"})
    member = {"cohort": "classifiers/iteration_0", "chain": 0, "instance": 0, "sha256": weights[0]}
    settings = {"fools": "c0", "phi": 1.0, "long": "x" * 7000}  # MLflow takes no more than 6000
    make_cohort(tmp_path, *GANS, settings, [member])
    return tmp_path


def make_meta(kind: str, cohort: str, instance: int, settings: Any, pool: Any) -> dict[str, Any]:
    recipe = {"learning_rate": 0.001, "betas": [0.5, 0.999], "model": {"latent_dim": 64}}
    lineage = {"data": {"name": "mnist", "sha256": "d" * 64}, "pool": pool}
    meta = {"kind": kind, "cohort": cohort, "chain": 0, "instance": instance, "steps": STEPS[-1]}
    return {**meta, "settings": recipe, "cohort_settings": settings, "lineage": lineage}


def make_cohort(root: Path, kind: str, cohort: str, settings: Any, pool: Any = ()) -> list[str]:
    """Fabricate a trained cohort of two; return the sha256 of the weights."""
    name = "generator.safetensors" if kind == "gans" else "classifier.safetensors"
    rows = "".join(f"{step},{step / 8},\n" for step in STEPS)
    entries, weights = [], []
    for instance in range(2):
        directory = root / "models" / kind / cohort / "0" / str(instance)
        texts = {
            name: f"weights {settings} {instance}",
            "curves.csv": f"step,loss,empty\n{rows}",
            "samples.png": "no real picture",
        }
        meta = make_meta(kind, cohort, instance, settings, list(pool))
        meta |= {"images_seen": 640, "versions": {"torch": "2.15.0"}, "weights": name}
        meta["files"] = {file: write_text(directory / file, texts[file]) for file in texts}
        sha256 = write_json(directory / "meta.json", meta)
        entries.append({"chain": 0, "instance": instance, "sha256": sha256})
        weights.append(meta["files"][name])
    write_json(root / "models" / kind / cohort / "cohort.json", {"instances": entries})
    return weights


def write_tables(root: Path, rate: float = 0.5) -> None:
    """Fabricate the two tables: every instance has a pair in the loss, in training, in neither."""
    groups = ["true,false", "false,true", "false,false"]
    lines = [
        f"fool_all_1,0,{generator},iteration_0,0,{classifier},{groups[group]},100,"
        f"{rate + group / 8},0.9,{0.25 + group / 4}\n"
        for generator in range(3)
        for classifier in range(3)
        for group in [(generator + classifier) % 3]
    ]
    keys = [f"{side}_{key}" for side in SIDES for key in ("cohort", "chain", "instance")]
    header = ",".join(keys) + ",in_loss,in_training,num_images,detection_rate,real_accuracy,auc\n"
    write_text(root / "reports" / "tiny" / "detections.csv", header + "".join(lines))
    quality = ",".join(keys[:3]) + ",phi,fid_lenet_4k,class_entropy,collapse\n"
    quality += "real,0,0,,1.5,2.25,intact\nfool_all_1,0,0,1,12.5,2,intact\n"
    quality += "fool_all_1,0,1,1,13.5,,empty\n"
    write_text(root / "reports" / "tiny" / "quality.csv", quality)


def find_runs(root: Path) -> dict[str, Run]:
    client = MlflowClient(tracking_uri(root))
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    by_name = {run.info.run_name: run for run in found}
    assert len(by_name) == len(found), sorted(run.info.run_name for run in found)
    return by_name


def get_steps(root: Path, run: Run) -> list[int]:
    history = MlflowClient(tracking_uri(root)).get_metric_history(run.info.run_id, "loss")
    return sorted(point.step for point in history)


def test_sync_shows_files_and_averages_of_tables(root: Path) -> None:
    write_tables(root)
    metrics = {"fool_all": {"iteration_1": 0.25}, "name": "x"}
    write_json(root / "reports" / "tiny" / "metrics.json", metrics)
    write_text(root / "params.yaml", "study: {}\n")
    assert sync_study(root, "tiny", COHORTS) == {"runs created": 4, "versions created": 2}
    found = find_runs(root)
    parent, gan = found["tiny"], found["gans/fool_all_1/0/0"]
    assert parent.data.metrics == {"fool_all/iteration_1": 0.25}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert get_steps(root, gan) == list(STEPS)
    params = {"phi": "1.0", "fools": "c0", "images_seen": "640", "long": "x" * 6000}
    params |= {"settings.betas": "[0.5, 0.999]", "settings.model.latent_dim": "64"}
    assert params.items() <= gan.data.params.items()
    weights = root / "models/classifiers/iteration_0/0/0/classifier.safetensors"
    tags = {
        "mlflow.parentRunId": parent.info.run_id,
        "kgaps.study": "tiny",
        "kgaps.cohort": "fool_all_1",
        "kgaps.data_sha256": "d" * 64,
        "kgaps.pool.0": f"classifiers/iteration_0/0/0 sha256={hash_file(weights)}",
    }
    assert tags.items() <= gan.data.tags.items()

    gan, classifier = found["gans/fool_all_1/0/1"], found["classifiers/iteration_0/0/1"]
    groups = ("in_loss", "in_training", "held_out")
    rates = {f"detection_rate/{{}}/{group}": 0.5 + k / 8 for k, group in enumerate(groups)}
    rates |= {f"auc/{{}}/{group}": 0.25 + k / 4 for k, group in enumerate(groups)}
    by_classifiers = {name.format("iteration_0"): rates[name] for name in rates}
    assert gan.data.metrics == {"loss": 3.75, "fid_lenet_4k": 13.5, **by_classifiers}
    by_gans = {name.format("fool_all_1"): rates[name] for name in rates}
    assert classifier.data.metrics == {"loss": 3.75, "real_accuracy": 0.9, **by_gans}


def test_second_sync_writes_nothing_and_changed_tables_metrics_only(root: Path) -> None:
    write_tables(root)
    write_text(root / "params.yaml", "study: {}\n")
    sync_study(root, "tiny", COHORTS)
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        before = list(database.iterdump())
    unchanged = {"runs unchanged": 4, "versions unchanged": 2}
    assert sync_study(root, "tiny", [*COHORTS, ("gans", "not_trained")]) == unchanged
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        assert list(database.iterdump()) == before
    write_tables(root, rate=0.25)
    assert sync_study(root, "tiny", COHORTS)["runs updated"] == 4
    gan = find_runs(root)["gans/fool_all_1/0/0"]
    assert gan.data.metrics["detection_rate/iteration_0/in_loss"] == 0.25
    assert get_steps(root, gan) == list(STEPS)


def get_versions(root: Path) -> dict[str, str]:
    aliases = MlflowClient(tracking_uri(root)).get_registered_model(MODEL).aliases
    return {name: str(version) for name, version in aliases.items()}


def test_other_training_gives_other_run_and_moves_alias(root: Path) -> None:
    sync_study(root, "tiny", [CLASSIFIERS])
    client = MlflowClient(tracking_uri(root))
    first = find_runs(root)["classifiers/iteration_0/0/0"].info.run_id
    version = client.get_model_version_by_alias(MODEL, "instance-0-0")
    source = Path(str(version.source).removeprefix("file://"))
    assert sorted(p.name for p in source.iterdir()) == ["classifier.safetensors", "meta.json"]
    assert version.tags["sha256"] == hash_file(source / "classifier.safetensors")
    assert version.run_id == first
    assert get_versions(root) == {"instance-0-0": "1", "instance-0-1": "2"}
    make_cohort(root, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_1"})
    created = {"runs created": 2, "versions created": 2}
    assert sync_study(root, "tiny", [CLASSIFIERS]) == created
    assert get_versions(root) == {"instance-0-0": "3", "instance-0-1": "4"}
    assert client.get_run(first).data.tags["kgaps.current"] == "false"
    make_cohort(root, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_2"})
    updated = {"runs updated": 2, "versions updated": 2}
    assert sync_study(root, "tiny", [CLASSIFIERS]) == updated
    assert get_versions(root) == {"instance-0-0": "1", "instance-0-1": "2"}


def test_studies_share_no_model(root: Path) -> None:
    for study, cohort in {"a_b": "d", "axb": "d", "a": "b-c", "a-b": "c"}.items():
        make_cohort(root, "classifiers", cohort, {"recipe": "cnn"})
        assert sync_study(root, study, [("classifiers", cohort)])["versions created"] == 2


def test_sync_refuses_altered_meta(root: Path) -> None:
    write_text(root / "models/gans/fool_all_1/0/1/meta.json", "{}")
    with pytest.raises(UserError, match=r"meta\.json: sha256 is .*, cohort\.json recorded"):
        sync_study(root, "tiny", COHORTS)


def make_tracker(root: Path) -> CohortTracker:
    """Make a tracker of instance 0 of the GANs, with what is known before the training."""
    return CohortTracker(root, "tiny", *GANS, {FIRST: make_meta(*GANS, 0, {"phi": 1.0}, [])})


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (StoppedError("stop"), "KILLED"), (UserError("bad"), "FAILED")],
)
def test_live_run_is_replaced_by_whole_one(
    root: Path, error: Exception | None, status: str
) -> None:
    with suppress(StoppedError, UserError), make_tracker(root) as tracker:
        tracker.log(FIRST, 10, {"loss": 1.25})
        tracker.log(FIRST, 20, {"loss": 2.5})
        if error is not None:
            raise error
    live = find_runs(root)["gans/fool_all_1/0/0"]
    assert (live.info.status, live.data.params["phi"]) == (status, "1.0")
    assert get_steps(root, live) == [10, 20]
    sync_study(root, "tiny", [("gans", "other")])
    assert find_runs(root)["gans/fool_all_1/0/0"].info.run_id == live.info.run_id
    assert sync_study(root, "tiny", [GANS]) == {"runs created": 2}
    whole = find_runs(root)["gans/fool_all_1/0/0"]
    assert (get_steps(root, whole), whole.info.status) == (list(STEPS), "FINISHED")


@pytest.mark.parametrize("address", [REFUSED, "sqlite:////dev/null/mlflow.db", ""])
def test_server_that_is_away_costs_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    if not address:  # mlflow is not installed
        monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with make_tracker(root) as tracker:
        tracker.log(FIRST, 10, {"loss": 1.25})
    [said] = capfd.readouterr().err.splitlines()
    assert said.startswith("tracking: ")
    assert said.endswith("; training goes on, `kgaps track sync` fills the gap later")
    with pytest.raises(UserError, match=r"could not be updated|cannot be written") as caught:
        sync_study(root, "tiny", COHORTS)
    assert "cret" not in said + str(caught.value)
    assert capfd.readouterr().err == ""


def test_server_that_never_answers_holds_nothing_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr("knowledge_gaps.tracking.live._CLOSE_SEC", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        started = time.monotonic()
        with make_tracker(root) as tracker:
            for step in range(1000):
                tracker.log(FIRST, step, {"loss": 0.5})
        assert time.monotonic() - started < 2
    tracker._thread.shutdown(wait=True)  # what it says late belongs to this test


def test_off_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with CohortTracker(tmp_path, "tiny", *GANS, {0: {}}) as tracker:
        tracker.log(FIRST, 10, {"loss": 1.25})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="KGAPS_TRACKING is 'off'"):
        sync_study(tmp_path, "tiny", COHORTS)
    monkeypatch.setenv("KGAPS_TRACKING", "of")
    with pytest.raises(UserError, match="KGAPS_TRACKING: 'of' found, 'on' or 'off'"):
        make_tracker(tmp_path)


def test_address_is_in_the_repository(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert tracking_uri(Path()) == f"sqlite:///{root}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/home/repository")
    monkeypatch.setenv("DVC_EXP_NAME", "an-experiment")
    home = "sqlite:////home/repository"
    for given, found in {"": "mlflow.db", "sqlite:///o.db": "o.db"}.items():
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        assert tracking_uri(root) == f"{home}/{found}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", REFUSED)
    assert tracking_uri(root) == REFUSED


@pytest.mark.slow
def test_processes_share_a_fresh_database(root: Path) -> None:
    (root / "mlflow.db").unlink()
    code = "import sys; from pathlib import Path; from knowledge_gaps.tracking.sync import *;"
    code += "print(sync_study(Path(sys.argv[1]), 'tiny', [tuple(sys.argv[2:])])['runs created'])"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(root), *cohort], stdout=subprocess.PIPE)
        for cohort in COHORTS
    ]
    assert [process.communicate()[0] for process in started] == [b"2\n", b"2\n"]
    assert len(find_runs(root)) == 5
