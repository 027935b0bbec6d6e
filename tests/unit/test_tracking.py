"""Tracking on a small fabricated study: MLflow is rebuilt from files, once, and costs nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import hash_file, read_json, write_json, write_text
from knowledge_gaps.stages import track
from knowledge_gaps.study import Study
from knowledge_gaps.tracking import (
    CohortTracker,
    LiveInstance,
    SyncReport,
    away,
    live,
    records,
    runs,
    server,
    sync,
    sync_cohort,
    sync_study,
    tracking_uri,
)

STUDY = "tiny"
CLASSIFIERS = ("classifiers", "iteration_0")
GANS = ("gans", "fool_all_1")
COHORTS = [GANS, CLASSIFIERS]
MODEL = "kgaps.tiny.iteration_0"
STEPS = (10, 20, 30)
REFUSED = "http://127.0.0.1:9"  # nobody listens on the discard port


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty, migrated database once."""
    path = tmp_path_factory.mktemp("template") / server.DATABASE_FILE
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test with the default address and nothing said."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(server.SWITCH, raising=False)
    start_process(monkeypatch)


def start_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a process remembers, as the next stage's process does."""
    for name in ("_said", "_away", "_stuck"):
        monkeypatch.setattr(away, name, set())


@pytest.fixture
def root(tmp_path: Path, database: Path) -> Path:
    """Fabricate a study of two classifiers, and two GANs trained against classifier 0."""
    shutil.copy(database, tmp_path / server.DATABASE_FILE)
    weights = make_cohort(tmp_path, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_2"})
    member = {"cohort": "classifiers/iteration_0", "instance": 0, "sha256": weights[0]}
    make_cohort(tmp_path, *GANS, {"recipe": "dcgan", "fools": "c0", "phi": 1.0}, [member])
    return tmp_path


def make_meta(
    kind: str, cohort: str, instance: int, cohort_settings: dict[str, Any], pool: list[Any]
) -> dict[str, Any]:
    """Make the part of meta.json that is known before the training."""
    return {
        "kind": kind,
        "cohort": cohort,
        "instance": instance,
        "architecture": "dcgan",
        "seed": 0,
        "steps": STEPS[-1],
        "settings": {"learning_rate": 0.001, "betas": [0.5, 0.999], "model": {"latent_dim": 64}},
        "cohort_settings": cohort_settings,
        "lineage": {"data": {"name": "mnist", "sha256": "d" * 64}, "pool": pool},
    }


def make_cohort(
    root: Path,
    kind: str,
    cohort: str,
    cohort_settings: dict[str, Any],
    pool: list[Any] | None = None,
) -> list[str]:
    """Fabricate a trained cohort of two; return the sha256 of the weights."""
    name = "generator.safetensors" if kind == "gans" else "classifier.safetensors"
    entries, weights = [], []
    for instance in range(2):
        directory = root / "models" / kind / cohort / str(instance)
        meta = make_meta(kind, cohort, instance, cohort_settings, pool or [])
        meta |= {"format": 1, "images_seen": 640, "versions": {"torch": "2.15.0"}, "weights": name}
        curves = "".join(f"{step},{step / 8},\n" for step in STEPS)
        meta["files"] = {
            name: write_text(directory / name, f"weights {cohort_settings} {instance}"),
            "curves.csv": write_text(directory / "curves.csv", f"step,loss,empty\n{curves}"),
            "samples.png": write_text(directory / "samples.png", "no real picture"),
        }
        sha256 = write_json(directory / "meta.json", meta)
        entries.append({"instance": instance, "sha256": sha256})
        weights.append(meta["files"][name])
    manifest = {"format": 1, "kind": kind, "cohort": cohort, "instances": entries}
    write_json(root / "models" / kind / cohort / "cohort.json", manifest)
    return weights


def write_tables(root: Path, rate: float = 0.5) -> None:
    """Fabricate the two tables: every instance has a pair in the loss, in training, in neither."""
    groups = [("true", "false"), ("false", "true"), ("false", "false")]
    lines = []
    for generator in range(3):
        for classifier in range(3):
            group = (generator + classifier) % 3
            scores = f"100,{rate + group / 8},0.9,{0.25 + group / 4}"
            pair = f"fool_all_1,{generator},iteration_0,{classifier}"
            lines.append(f"{pair},{','.join(groups[group])},{scores}")
    header = "generator_cohort,generator_instance,classifier_cohort,classifier_instance,"
    header += "in_loss,in_training,num_images,detection_rate,real_accuracy,auc"
    write_text(root / "reports" / "detections.csv", "\n".join([header, *lines, ""]))
    quality = "generator_cohort,generator_instance,phi,fid_lenet_4k,class_entropy\n"
    quality += "real,0,,1.5,2.25\nfool_all_1,0,1.0,12.5,2.0\nfool_all_1,1,1.0,13.5,nan\n"
    write_text(root / "reports" / "quality.csv", quality)


def find_runs(root: Path) -> dict[str, Run]:
    """Find all runs, by their names; a name that occurs twice fails the test."""
    client = MlflowClient(tracking_uri(root))
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    by_name = {run.info.run_name: run for run in found}
    assert len(by_name) == len(found), sorted(run.info.run_name for run in found)
    return by_name


def get_steps(root: Path, run: Run, metric: str = "loss") -> list[int]:
    """Read at which steps a metric was logged."""
    history = MlflowClient(tracking_uri(root)).get_metric_history(run.info.run_id, metric)
    return sorted(point.step for point in history)


def get_aliases(root: Path) -> dict[str, str]:
    """Read which version each alias of the classifiers points at."""
    model = MlflowClient(tracking_uri(root)).get_registered_model(MODEL)
    return {name: str(version) for name, version in model.aliases.items()}


def hash_database(root: Path) -> str:
    """Hash everything that the database holds."""
    with closing(sqlite3.connect(root / server.DATABASE_FILE)) as database:
        return hashlib.sha256("\n".join(database.iterdump()).encode()).hexdigest()


def test_sync_shows_runs_of_files(root: Path) -> None:
    write_tables(root)
    write_json(root / "reports" / "metrics.json", {"fool_all": {"iteration 1": 0.25}, "name": "x"})
    write_text(root / "params.yaml", "study: {}\n")
    md5 = "{outs: [{path: models/gans/fool_all_1, md5: 0ab.dir}]}"
    write_text(root / "dvc.lock", f"stages: {{gans@fool_all_1: {md5}}}\n")

    report = sync_study(root, STUDY, COHORTS, strict=True)

    assert report == SyncReport(runs_created=4, versions_created=2, study_updated=True)
    found = find_runs(root)
    parent, gan = found["tiny"], found["gans/fool_all_1/0"]
    assert parent.data.tags["kgaps.study"] == "tiny"
    assert parent.data.metrics == {"fool_all/iteration_1": 0.25}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert gan.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert next(iter(records.collect_params({"cohort_settings": {"a": 1, "phi": 2}}))) == "phi"
    assert gan.data.params["phi"] == "1.0"
    assert gan.data.params["settings.learning_rate"] == "0.001"
    assert gan.data.params["settings.model.latent_dim"] == "64"
    assert get_steps(root, gan) == list(STEPS)
    assert gan.data.tags["kgaps.dvc_md5"] == "0ab.dir"
    assert gan.data.tags["kgaps.data_sha256"] == "d" * 64
    weights = root / "models/classifiers/iteration_0/0/classifier.safetensors"
    member = f"classifiers/iteration_0/0 sha256={hash_file(weights)} registry={MODEL}/1"
    assert gan.data.tags["kgaps.pool.0"] == member


def test_sync_averages_tables(root: Path) -> None:
    write_tables(root)
    sync_study(root, STUDY, COHORTS, strict=True)
    found = find_runs(root)
    gan, classifier = found["gans/fool_all_1/1"], found["classifiers/iteration_0/1"]
    expected = {
        "detection_rate/{}/in_loss": 0.5,
        "detection_rate/{}/in_training": 0.625,
        "detection_rate/{}/held_out": 0.75,
        "auc/{}/in_loss": 0.25,
        "auc/{}/in_training": 0.5,
        "auc/{}/held_out": 0.75,
    }
    by_classifiers = {name.format("iteration_0"): expected[name] for name in expected}
    assert gan.data.metrics == {"loss": 3.75, "fid_lenet_4k": 13.5, **by_classifiers}
    of_gans = {name.format("fool_all_1"): expected[name] for name in expected}
    assert classifier.data.metrics == {"loss": 3.75, "real_accuracy": 0.9, **of_gans}


def test_registry_version_is_directory_of_classifier(root: Path) -> None:
    sync_study(root, STUDY, COHORTS, strict=True)
    version = MlflowClient(tracking_uri(root)).get_model_version_by_alias(MODEL, "instance-1")
    source = Path(str(version.source).removeprefix("file://"))
    assert sorted(p.name for p in source.iterdir()) == ["classifier.safetensors", "meta.json"]
    assert version.tags["sha256"] == hash_file(source / "classifier.safetensors")
    assert version.run_id == find_runs(root)["classifiers/iteration_0/1"].info.run_id


def test_second_sync_writes_nothing(root: Path) -> None:
    write_tables(root)
    write_text(root / "params.yaml", "study: {}\n")
    sync_study(root, STUDY, COHORTS, strict=True)
    before = hash_database(root)
    report = sync_study(root, STUDY, COHORTS, strict=True)
    assert report == SyncReport(runs_unchanged=4, versions_unchanged=2)
    assert sync_cohort(root, STUDY, *GANS, strict=True) == SyncReport(runs_unchanged=2)
    assert hash_database(root) == before


def test_changed_tables_update_metrics_only(root: Path) -> None:
    sync_study(root, STUDY, COHORTS, strict=True)
    write_tables(root)
    report = sync_study(root, STUDY, COHORTS, strict=True)
    assert report == SyncReport(runs_updated=4, versions_updated=2)
    write_tables(root, rate=0.25)
    sync_study(root, STUDY, COHORTS, strict=True)
    gan = find_runs(root)["gans/fool_all_1/0"]
    assert gan.data.metrics["detection_rate/iteration_0/in_loss"] == 0.25
    assert get_steps(root, gan) == list(STEPS)
    version = MlflowClient(tracking_uri(root)).get_model_version(MODEL, "1")
    rates = [version.tags[f"detection_rate/{g}"] for g in ("in_loss", "in_training", "held_out")]
    assert rates == ["0.25", "0.375", "0.5"]
    assert version.tags["real_accuracy"] == "0.9"


def test_other_training_gives_other_run_and_moves_alias(root: Path) -> None:
    sync_study(root, STUDY, [CLASSIFIERS], strict=True)
    assert get_aliases(root) == {"instance-0": "1", "instance-1": "2"}
    first = find_runs(root)
    make_cohort(root, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_1"})

    report = sync_study(root, STUDY, [CLASSIFIERS], strict=True)

    assert report == SyncReport(runs_created=2, runs_updated=2, versions_created=2)
    assert get_aliases(root) == {"instance-0": "3", "instance-1": "4"}
    old = first["classifiers/iteration_0/0"].info.run_id
    assert MlflowClient(tracking_uri(root)).get_run(old).data.tags["kgaps.current"] == "false"
    make_cohort(root, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_2"})
    report = sync_study(root, STUDY, [CLASSIFIERS], strict=True)
    assert (report.runs_created, report.versions_created) == (0, 0)
    assert get_aliases(root) == {"instance-0": "1", "instance-1": "2"}


def test_studies_share_no_model(root: Path) -> None:
    names = {"a": "b-c", "a-b": "c", "a_b": "d", "axb": "d"}  # SQL's LIKE takes "_" for any letter
    for cohort in sorted(set(names.values())):
        make_cohort(root, "classifiers", cohort, {"recipe": "cnn", "detects": "baseline_2"})
    for study in names:
        done = sync_study(root, study, [("classifiers", names[study])], strict=True)
        assert done.versions_created == 2
    models = MlflowClient(tracking_uri(root)).search_registered_models()
    assert {model.name for model in models} == {f"kgaps.{s}.{names[s]}" for s in names}
    connection = server.connect(root, str(tracking_uri(root)))
    assert list(connection.find_models("kgaps.a_b.")) == ["kgaps.a_b.d"]
    assert {v.model for v in connection.find_versions("kgaps.a_b.")} == {"kgaps.a_b.d"}


def test_version_that_appears_later_is_added(root: Path) -> None:
    sync_cohort(root, STUDY, *GANS, strict=True)
    assert "registry=" not in find_runs(root)["gans/fool_all_1/0"].data.tags["kgaps.pool.0"]
    report = sync_study(root, STUDY, COHORTS, strict=True)
    assert (report.runs_created, report.runs_updated) == (2, 2)
    tag = find_runs(root)["gans/fool_all_1/0"].data.tags["kgaps.pool.0"]
    assert tag.endswith(f"registry={MODEL}/1")


def test_cohorts_that_are_not_named_are_left_aside(root: Path) -> None:
    report = sync_study(root, STUDY, [CLASSIFIERS, ("gans", "not_trained")], strict=True)
    assert report.runs_created == 2


def test_sync_refuses_altered_meta(root: Path) -> None:
    write_text(root / "models/gans/fool_all_1/1/meta.json", "{}")
    with pytest.raises(UserError, match=r"meta\.json: sha256 is .*, cohort\.json recorded"):
        sync_study(root, STUDY, COHORTS, strict=True)


def test_long_parameter_is_kept_as_artifact(root: Path) -> None:
    long = "x" * 7000
    make_cohort(root, *GANS, {"recipe": "dcgan", "phi": 0.0, "fools": long})
    sync_study(root, STUDY, [GANS], strict=True)
    run = find_runs(root)["gans/fool_all_1/0"]
    assert run.data.params["fools"] == "7000 characters, see the artifact long_params.json"
    uri = tracking_uri(root)
    path = MlflowClient(uri).download_artifacts(run.info.run_id, "long_params.json")
    assert long in Path(path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [("a b/c@(d)", "a_b/c__d_"), ("x//y", "x/_/y"), ("../a", "_/a"), ("phi_1e-2/v1.0", None)],
)
def test_clean_name(name: str, cleaned: str | None) -> None:
    assert records.clean_name(name) == (name if cleaned is None else cleaned)


def test_commit_is_dirty_by_code_not_by_results(tmp_path: Path) -> None:
    assert records.describe_commit(tmp_path / "missing") == {}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for name in ("params.yaml", "dvc.lock"):
        write_text(tmp_path / name, "first")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    clean = records.describe_commit(tmp_path)
    assert len(clean["kgaps.git_commit"]) == 40
    write_text(tmp_path / "dvc.lock", "second")
    assert records.describe_commit(tmp_path) == clean
    write_text(tmp_path / "params.yaml", "second")
    assert records.describe_commit(tmp_path)["kgaps.git_commit"].endswith("-dirty")


def make_tracker(root: Path, phi: float = 1.0, code: str = "") -> CohortTracker:
    """Make a tracker of instance 0 of the GANs, with what is known before the training."""
    settings = {"recipe": "dcgan", "fools": "c0", "phi": phi}
    weights = root / "models/classifiers/iteration_0/0/classifier.safetensors"
    member = {"cohort": "classifiers/iteration_0", "instance": 0, "sha256": hash_file(weights)}
    meta = make_meta(*GANS, 0, settings, [member])
    return CohortTracker(root, STUDY, *GANS, {0: LiveInstance(f"phi {phi}{code}", meta)})


def test_live_run_is_resumed_and_finished(root: Path) -> None:
    with suppress(StoppedError), make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
        tracker.log(0, 20, {"loss": 2.5})
        raise StoppedError("stopped at step 20")
    stopped = find_runs(root)["gans/fool_all_1/0"]
    assert stopped.info.status == "KILLED"
    assert get_steps(root, stopped) == [10, 20]

    with make_tracker(root) as tracker:  # resumed from step 10
        tracker.log(0, 20, {"loss": 2.5})
    resumed = find_runs(root)["gans/fool_all_1/0"]
    assert (resumed.info.run_id, resumed.info.status) == (stopped.info.run_id, "RUNNING")
    assert get_steps(root, resumed) == [10, 20]

    report = sync_cohort(root, STUDY, *GANS, strict=True)
    assert report == SyncReport(runs_created=1, runs_updated=1)
    finished = find_runs(root)["gans/fool_all_1/0"]
    assert (finished.info.run_id, finished.info.status) == (stopped.info.run_id, "FINISHED")
    assert get_steps(root, finished) == list(STEPS)
    assert finished.data.params["images_seen"] == "640"


def test_live_run_of_other_settings_is_closed_not_finished(root: Path) -> None:
    with make_tracker(root, phi=2.0) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    stale = find_runs(root)["gans/fool_all_1/0"].info.run_id
    report = sync_cohort(root, STUDY, *GANS, strict=True)
    assert report == SyncReport(runs_created=2, runs_closed=1)
    assert MlflowClient(tracking_uri(root)).get_run(stale).info.status == "KILLED"


def test_training_again_leaves_finished_run_alone(root: Path) -> None:
    with make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    sync_study(root, STUDY, COHORTS, strict=True)
    before = hash_database(root)
    with make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 9.0})
    assert hash_database(root) == before


def find_statuses(root: Path) -> dict[str, str]:
    """Find how the runs of instance 0 of the GANs stand, by their ids."""
    runs_of_study = server.connect(root, tracking_uri(root) or "").find_runs(STUDY)
    return {run.run_id: run.status for run in runs_of_study if runs.get_key(run) == (*GANS, 0)}


def train_again(root: Path, code: str) -> str:
    """Train by other code to the same bytes; return the id of the run that shows it."""
    before = find_statuses(root)
    with make_tracker(root, code=code) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    report = sync_cohort(root, STUDY, *GANS, strict=True)
    assert (report.runs_created, report.runs_updated, report.runs_closed) == (0, 0, 1)
    [again] = set(find_statuses(root)) - set(before)
    return again


def test_same_bytes_by_other_code_end_finished(root: Path) -> None:
    sync_study(root, STUDY, COHORTS, strict=True)
    [shown] = find_statuses(root)
    again = train_again(root, " by other code")
    assert find_statuses(root) == dict.fromkeys((shown, again), "FINISHED")
    tags = MlflowClient(tracking_uri(root)).get_run(again).data.tags
    assert tags[runs.SAME_AS] == shown
    settled = hash_database(root)
    sync_cohort(root, STUDY, *GANS, strict=True)
    with make_tracker(root, code=" by other code") as tracker:
        tracker.log(0, 10, {"loss": 9.0})
    assert hash_database(root) == settled


def test_run_that_names_another_takes_no_later_result(root: Path) -> None:
    sync_study(root, STUDY, COHORTS, strict=True)
    again = train_again(root, " by other code")
    path = root / "models/gans/fool_all_1/0/generator.safetensors"
    meta_path = path.with_name("meta.json")
    meta = read_json(meta_path)
    meta["files"][path.name] = write_text(path, "other weights")
    manifest_path = root / "models/gans/fool_all_1/cohort.json"
    manifest = read_json(manifest_path)
    manifest["instances"][0]["sha256"] = write_json(meta_path, meta)
    write_json(manifest_path, manifest)
    assert sync_cohort(root, STUDY, *GANS, strict=True).runs_created == 1
    tags = MlflowClient(tracking_uri(root)).get_run(again).data.tags
    assert records.META_SHA256 not in tags


@pytest.mark.parametrize(
    ("pid", "age_sec", "is_closed"),
    [("self", 0, True), ("parent", 0, False), ("parent", 9e3, True)],
)
def test_sync_closes_runs_without_training(
    root: Path, pid: str, age_sec: float, is_closed: bool
) -> None:
    uri = tracking_uri(root)
    assert uri is not None
    connection = server.connect(root, uri)
    parent = runs.find_parent(connection, STUDY, [])
    process = f"{socket.gethostname()}/{os.getpid() if pid == 'self' else os.getppid()}"
    tags = {runs.PROCESS: process, runs.ALIVE_AT: str(int(time.time() - age_sec))}
    runs.create_child(connection, parent, ("gans", "fool_all_1", 7), tags)
    report = sync_study(root, STUDY, COHORTS, strict=True)
    assert report.runs_closed == int(is_closed)
    status = find_runs(root)["gans/fool_all_1/7"].info.status
    assert status == ("KILLED" if is_closed else "RUNNING")


def join_threads(before: list[threading.Thread]) -> None:
    """Wait for the threads that a test left behind, so that they say nothing in the next one."""
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(timeout=10)
            assert not thread.is_alive()


def test_log_and_close_never_wait(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*_: object) -> None:
        release.wait()
        raise TimeoutError

    monkeypatch.setattr(live, "connect", hang)
    monkeypatch.setattr(away, "report_failure", lambda *_: None)
    before = threading.enumerate()
    tracker = make_tracker(root)
    for step in range(1000):
        tracker.log(0, step, {"loss": 0.5})
    started = time.monotonic()
    tracker.close(timeout_sec=0.05)
    assert time.monotonic() - started < 1
    release.set()
    join_threads(before)


def test_server_that_is_away_costs_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", REFUSED)
    started = time.monotonic()
    with make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    assert sync_cohort(root, STUDY, *GANS) == SyncReport()
    assert time.monotonic() - started < 15
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"tracking: {REFUSED} does not answer (ConnectionRefusedError: ")
    assert said[0].endswith("; training goes on, `kgaps track sync` fills the gap later")
    with pytest.raises(UserError, match="does not answer"):
        sync_study(root, STUDY, COHORTS, strict=True)


def run_stage(root: Path) -> SyncReport:
    """Track a training as a stage does."""
    with make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    return sync_cohort(root, STUDY, *GANS)


def write_away(root: Path, age_sec: float, uri: str | None = None) -> Path:
    """Leave the file by which an earlier process says that a server was away."""
    content = {"uri": uri or tracking_uri(root), "failed_at": time.time() - age_sec}
    write_json(root / ".kgaps" / away.AWAY_FILE, content)
    return root / ".kgaps" / away.AWAY_FILE


def test_server_that_is_away_is_asked_by_one_stage(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", REFUSED.replace("//", "//user:secret@"))
    assert run_stage(root) == SyncReport()
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert "secret" not in (root / ".kgaps" / away.AWAY_FILE).read_text(encoding="utf-8")

    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)  # who connects says one line more
    started = time.monotonic()
    for _ in range(17):
        start_process(monkeypatch)
        assert run_stage(root) == SyncReport()
    assert time.monotonic() - started < 1
    assert capfd.readouterr().err == ""


def test_sync_after_live_failure_does_not_ask_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", REFUSED)
    with make_tracker(root):
        pass
    (root / ".kgaps" / away.AWAY_FILE).unlink()  # as after a training of hours
    monkeypatch.setattr(sync, "connect", lambda *_: pytest.fail("asked again"))
    assert sync_cohort(root, STUDY, *GANS) == SyncReport()
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_strict_sync_asks_and_clears(root: Path) -> None:
    path = write_away(root, age_sec=0)
    assert run_stage(root) == sync_study(root, STUDY, COHORTS) == SyncReport()
    assert sync_study(root, STUDY, COHORTS, strict=True).runs_created == 4
    assert not path.exists()
    assert sync_cohort(root, STUDY, *GANS) == SyncReport(runs_unchanged=2)


@pytest.mark.parametrize(("age_sec", "uri"), [(away.AWAY_SEC + 1, None), (-60, None), (0, REFUSED)])
def test_server_is_asked_again(root: Path, age_sec: float, uri: str | None) -> None:
    path = write_away(root, age_sec, uri)
    with make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    assert not path.exists()
    write_away(root, age_sec, uri)
    assert sync_cohort(root, STUDY, *GANS) == SyncReport(runs_created=1, runs_updated=1)
    assert not path.exists()


def test_unsound_file_does_not_stop_tracking(root: Path) -> None:
    for text in ("{", "[]", "{}", '{"failed_at": null}', '{"failed_at": "noon"}'):
        write_text(root / ".kgaps" / away.AWAY_FILE, text)
        assert not away.is_away(root, REFUSED)


def test_stuck_thread_does_not_block_sync(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sync, "_STUCK_LOCK_SEC", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        before = threading.enumerate()
        tracker = make_tracker(root)
        silent.accept()[0].close()
        call, _ = silent.accept()  # the second try: the thread holds the lock
        tracker.close(timeout_sec=0.05)
        started = time.monotonic()
        assert sync_cohort(root, STUDY, *GANS) == SyncReport()
        assert time.monotonic() - started < 2
        call.close()
    join_threads(before)
    said = capfd.readouterr().err
    assert said.startswith(f"tracking: {uri} does not answer (Timeout: ")
    assert len(said.splitlines()) == 1
    assert away.is_away(root, uri)


def test_gateway_without_server_is_away(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class ResponseError(Exception):
        __module__ = "urllib3.exceptions"

    away.report_failure(root, REFUSED, ResponseError("too many 503 error responses"))
    assert "does not answer (ResponseError: too many 503" in capfd.readouterr().err
    assert away.is_away(root, REFUSED)


def test_refusal_and_local_failure_are_not_remembered(root: Path) -> None:
    away.report_failure(root, REFUSED, ValueError("no such experiment"))
    away.report_failure(root, str(tracking_uri(root)), TimeoutError("locked"))
    assert not away.is_away(root, REFUSED)
    assert not away.is_away(root, str(tracking_uri(root)))


def test_track_prints_every_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = SyncReport(1, 2, 3, 4, 5, 6, 7, study_updated=True)
    monkeypatch.setattr(track, "sync_study", lambda *_, **__: done)
    monkeypatch.setattr(track, "list_cohorts", lambda _: [])
    track.sync(tmp_path, cast(Study, SimpleNamespace(study=SimpleNamespace(name=STUDY))))
    assert capsys.readouterr().out == (
        "runs: 1 created, 2 updated, 3 unchanged; classifier versions: 5 created, 6 updated, "
        "7 unchanged; runs closed: 4; study: updated\n"
    )


def test_missing_mlflow_costs_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    assert sync_cohort(root, STUDY, *GANS) == SyncReport()
    assert capfd.readouterr().err.startswith("tracking: mlflow is not installed; training goes on")


def test_password_is_not_said(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    away.report_failure(root, "https://user:secret@host/path", ConnectionError("no route"))
    said = capfd.readouterr().err
    assert "secret" not in said
    assert "https://host/path does not answer" in said


def test_off_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server.SWITCH, "off")
    assert tracking_uri(tmp_path) is None
    with CohortTracker(tmp_path, STUDY, *GANS, {0: LiveInstance("training")}) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    assert sync_study(tmp_path, STUDY, COHORTS) == SyncReport()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="KGAPS_TRACKING is 'off'"):
        sync_study(tmp_path, STUDY, COHORTS, strict=True)


@pytest.mark.parametrize("switch", ["of", "OFF", "sqlite:///here.db"])
def test_misspelt_switch_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(server.SWITCH, switch)
    with pytest.raises(UserError, match=f"KGAPS_TRACKING: '{switch}' found, 'on' or 'off'"):
        CohortTracker(tmp_path, STUDY, *GANS, {})


@pytest.mark.parametrize("switch", ["on", ""])
def test_switch_may_be_on_or_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    monkeypatch.setenv(server.SWITCH, switch)
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_default_address_is_in_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path()) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", REFUSED)
    assert tracking_uri(tmp_path) == REFUSED


def test_import_leaves_mlflow_alone() -> None:
    code = "import sys, knowledge_gaps.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_processes_share_a_fresh_database(root: Path) -> None:
    (root / server.DATABASE_FILE).unlink()
    code = (
        "import sys; from pathlib import Path; from knowledge_gaps.tracking import *;"
        "print(sync_cohort(Path(sys.argv[1]), 'tiny', *sys.argv[2:], strict=True).runs_created)"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(root), *cohort], stdout=subprocess.PIPE)
        for cohort in COHORTS
    ]
    assert [process.communicate()[0] for process in started] == [b"2\n", b"2\n"]
    assert len(find_runs(root)) == 5
