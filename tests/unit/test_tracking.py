"""Tracking on a fabricated study: MLflow is rebuilt from files, and never costs a training."""

from __future__ import annotations

import shutil
import signal
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
from knowledge_gaps.tracking import records, server
from knowledge_gaps.tracking.live import CohortTracker
from knowledge_gaps.tracking.sync import sync_study

CLASSIFIERS, GANS = ("classifiers", "iteration_0"), ("gans", "fool_all_1")
COHORTS = [GANS, CLASSIFIERS]
MODEL = "kgaps.tiny.iteration_0"
STEPS = (10, 20, 30)
REFUSED = "http://user:se@cret@127.0.0.1:9/path?token=secret"  # nobody listens on the discard port


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an empty database once."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    server.make_database(path)
    return path


@pytest.fixture
def root(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fabricate a study of two classifiers, and two GANs trained against classifier 0."""
    for name in ("MLFLOW_TRACKING_URI", "KGAPS_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(database, tmp_path / "mlflow.db")
    weights = make_cohort(tmp_path, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_2"})
    member = {"cohort": "classifiers/iteration_0", "instance": 0, "sha256": weights[0]}
    settings = {"recipe": "dcgan", "fools": "c0", "phi": 1.0}
    make_cohort(tmp_path, *GANS, settings, [member])
    return tmp_path


def make_meta(kind: str, cohort: str, instance: int, settings: Any, pool: Any) -> dict[str, Any]:
    """Make the part of meta.json that is known before the training."""
    return {
        "kind": kind,
        "cohort": cohort,
        "instance": instance,
        "steps": STEPS[-1],
        "settings": {"learning_rate": 0.001, "betas": [0.5, 0.999], "model": {"latent_dim": 64}},
        "cohort_settings": settings,
        "lineage": {"data": {"name": "mnist", "sha256": "d" * 64}, "pool": pool},
    }


def make_cohort(root: Path, kind: str, cohort: str, settings: Any, pool: Any = ()) -> list[str]:
    """Fabricate a trained cohort of two; return the sha256 of the weights."""
    name = "generator.safetensors" if kind == "gans" else "classifier.safetensors"
    entries, weights = [], []
    for instance in range(2):
        directory = root / "models" / kind / cohort / str(instance)
        meta = make_meta(kind, cohort, instance, settings, list(pool))
        meta |= {"images_seen": 640, "versions": {"torch": "2.15.0"}, "weights": name}
        rows = "".join(f"{step},{step / 8},\n" for step in STEPS)
        meta["files"] = {
            name: write_text(directory / name, f"weights {settings} {instance}"),
            "curves.csv": write_text(directory / "curves.csv", f"step,loss,empty\n{rows}"),
            "samples.png": write_text(directory / "samples.png", "no real picture"),
        }
        entries.append({"instance": instance, "sha256": write_json(directory / "meta.json", meta)})
        weights.append(meta["files"][name])
    write_json(root / "models" / kind / cohort / "cohort.json", {"instances": entries})
    return weights


def write_tables(root: Path, rate: float = 0.5) -> None:
    """Fabricate the two tables: every instance has a pair in the loss, in training, in neither."""
    groups = ["true,false", "false,true", "false,false"]
    lines = [
        f"fool_all_1,{generator},iteration_0,{classifier},{groups[group]},100,"
        f"{rate + group / 8},0.9,{0.25 + group / 4}\n"
        for generator in range(3)
        for classifier in range(3)
        for group in [(generator + classifier) % 3]
    ]
    header = "generator_cohort,generator_instance,classifier_cohort,classifier_instance,"
    header += "in_loss,in_training,num_images,detection_rate,real_accuracy,auc\n"
    write_text(root / "reports" / "detections.csv", header + "".join(lines))
    quality = "generator_cohort,generator_instance,phi,fid_lenet_4k,class_entropy,collapse\n"
    quality += "real,0,,1.5,2.25,intact\nfool_all_1,0,1,12.5,2,intact\nfool_all_1,1,1,13.5,,empty\n"
    write_text(root / "reports" / "quality.csv", quality)


def find_runs(root: Path) -> dict[str, Run]:
    """Find all runs by their names; a name that occurs twice fails the test."""
    client = MlflowClient(server.tracking_uri(root))
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    by_name = {run.info.run_name: run for run in found}
    assert len(by_name) == len(found), sorted(run.info.run_name for run in found)
    return by_name


def get_steps(root: Path, run: Run, metric: str = "loss") -> list[int]:
    history = MlflowClient(server.tracking_uri(root)).get_metric_history(run.info.run_id, metric)
    return sorted(point.step for point in history)


def dump_database(root: Path) -> str:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return "\n".join(database.iterdump())


def test_sync_shows_runs_of_files(root: Path) -> None:
    write_tables(root)
    write_json(root / "reports" / "metrics.json", {"fool_all": {"iteration_1": 0.25}, "name": "x"})
    write_text(root / "params.yaml", "study: {}\n")
    assert sync_study(root, "tiny", COHORTS) == {"runs created": 4, "versions created": 2}
    found = find_runs(root)
    parent, gan = found["tiny"], found["gans/fool_all_1/0"]
    assert parent.data.metrics == {"fool_all/iteration_1": 0.25}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert get_steps(root, gan) == list(STEPS)
    expected = {
        "phi": "1.0",
        "fools": "c0",
        "settings.learning_rate": "0.001",
        "settings.betas": "[0.5, 0.999]",
        "settings.model.latent_dim": "64",
        "images_seen": "640",
    }
    assert expected.items() <= gan.data.params.items()
    weights = root / "models/classifiers/iteration_0/0/classifier.safetensors"
    tags = {
        "mlflow.parentRunId": parent.info.run_id,
        "kgaps.study": "tiny",
        "kgaps.cohort": "fool_all_1",
        "kgaps.data_sha256": "d" * 64,
        "kgaps.pool.0": f"classifiers/iteration_0/0 sha256={hash_file(weights)}",
    }
    assert tags.items() <= gan.data.tags.items()


def test_sync_averages_tables(root: Path) -> None:
    write_tables(root)
    sync_study(root, "tiny", COHORTS)
    found = find_runs(root)
    gan, classifier = found["gans/fool_all_1/1"], found["classifiers/iteration_0/1"]
    rates = {
        "detection_rate/{}/in_loss": 0.5,
        "detection_rate/{}/in_training": 0.625,
        "detection_rate/{}/held_out": 0.75,
        "auc/{}/in_loss": 0.25,
        "auc/{}/in_training": 0.5,
        "auc/{}/held_out": 0.75,
    }
    by_classifiers = {name.format("iteration_0"): rates[name] for name in rates}
    assert gan.data.metrics == {"loss": 3.75, "fid_lenet_4k": 13.5, **by_classifiers}
    by_gans = {name.format("fool_all_1"): rates[name] for name in rates}
    assert classifier.data.metrics == {"loss": 3.75, "real_accuracy": 0.9, **by_gans}


def test_second_sync_writes_nothing_and_changed_tables_metrics_only(root: Path) -> None:
    write_tables(root)
    write_text(root / "params.yaml", "study: {}\n")
    sync_study(root, "tiny", COHORTS)
    before = dump_database(root)
    unchanged = {"runs unchanged": 4, "versions unchanged": 2}
    assert sync_study(root, "tiny", [*COHORTS, ("gans", "not_trained")]) == unchanged
    assert dump_database(root) == before
    write_tables(root, rate=0.25)
    assert sync_study(root, "tiny", COHORTS)["runs updated"] == 4
    gan = find_runs(root)["gans/fool_all_1/0"]
    assert gan.data.metrics["detection_rate/iteration_0/in_loss"] == 0.25
    assert get_steps(root, gan) == list(STEPS)


def test_version_is_directory_of_classifier(root: Path) -> None:
    sync_study(root, "tiny", COHORTS)
    client = MlflowClient(server.tracking_uri(root))
    version = client.get_model_version_by_alias(MODEL, "instance-1")
    source = Path(str(version.source).removeprefix("file://"))
    assert sorted(p.name for p in source.iterdir()) == ["classifier.safetensors", "meta.json"]
    assert version.tags["sha256"] == hash_file(source / "classifier.safetensors")
    assert version.run_id == find_runs(root)["classifiers/iteration_0/1"].info.run_id


def test_other_training_gives_other_run_and_moves_alias(root: Path) -> None:
    def get_aliases() -> dict[str, str]:
        aliases = MlflowClient(server.tracking_uri(root)).get_registered_model(MODEL).aliases
        return {name: str(version) for name, version in aliases.items()}

    sync_study(root, "tiny", [CLASSIFIERS])
    first = find_runs(root)["classifiers/iteration_0/0"].info.run_id
    assert get_aliases() == {"instance-0": "1", "instance-1": "2"}
    make_cohort(root, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_1"})
    done = sync_study(root, "tiny", [CLASSIFIERS])
    assert done == {"runs created": 2, "versions created": 2}
    assert get_aliases() == {"instance-0": "3", "instance-1": "4"}
    old = MlflowClient(server.tracking_uri(root)).get_run(first)
    assert old.data.tags["kgaps.current"] == "false"
    make_cohort(root, *CLASSIFIERS, {"recipe": "cnn", "detects": "baseline_2"})
    done = sync_study(root, "tiny", [CLASSIFIERS])
    assert done == {"runs updated": 2, "versions updated": 2}
    assert get_aliases() == {"instance-0": "1", "instance-1": "2"}


def test_studies_share_no_model(root: Path) -> None:
    for study, cohort in {"a": "b-c", "a-b": "c", "a_b": "d", "axb": "d"}.items():
        make_cohort(root, "classifiers", cohort, {"recipe": "cnn"})
        done = sync_study(root, study, [("classifiers", cohort)])
        assert done == {"runs created": 2, "versions created": 2}


def test_sync_refuses_altered_meta(root: Path) -> None:
    write_text(root / "models/gans/fool_all_1/1/meta.json", "{}")
    with pytest.raises(UserError, match=r"meta\.json: sha256 is .*, cohort\.json recorded"):
        sync_study(root, "tiny", COHORTS)


def test_long_parameter_is_cut(root: Path) -> None:
    assert records.collect_params({"cohort_settings": {"fools": "x" * 7000}})["fools"] == "x" * 6000


def make_tracker(root: Path) -> CohortTracker:
    """Make a tracker of instance 0 of the GANs, with what is known before the training."""
    return CohortTracker(root, "tiny", *GANS, {0: make_meta(*GANS, 0, {"phi": 1.0}, [])})


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (StoppedError("stop"), "KILLED"), (UserError("bad"), "FAILED")],
)
def test_live_run_is_replaced_by_whole_one(
    root: Path, error: Exception | None, status: str
) -> None:
    with suppress(StoppedError, UserError), make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
        tracker.log(0, 20, {"loss": 2.5})
        if error is not None:
            raise error
    live = find_runs(root)["gans/fool_all_1/0"]
    assert (live.info.status, live.data.params["phi"]) == (status, "1.0")
    assert get_steps(root, live) == [10, 20]
    sync_study(root, "tiny", [("gans", "other")])
    assert find_runs(root)["gans/fool_all_1/0"].info.run_id == live.info.run_id
    assert sync_study(root, "tiny", [GANS]) == {"runs created": 2}
    whole = find_runs(root)["gans/fool_all_1/0"]
    assert (get_steps(root, whole), whole.info.status) == (list(STEPS), "FINISHED")


@pytest.mark.parametrize("address", [REFUSED, "sqlite:////dev/null/mlflow.db"])
def test_server_that_is_away_costs_one_line(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    address: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("tracking: ")
    assert said[0].endswith("; training goes on, `kgaps track sync` fills the gap later")
    with pytest.raises(UserError, match=r"could not be updated|cannot be written") as caught:
        sync_study(root, "tiny", COHORTS)
    assert "secret" not in said[0] + str(caught.value)
    assert "cret" not in said[0] + str(caught.value)
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
                tracker.log(0, step, {"loss": 0.5})
        assert time.monotonic() - started < 2
    tracker._thread.shutdown(wait=True)  # what it says late belongs to this test


def test_missing_mlflow_costs_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with make_tracker(root) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    [said] = capfd.readouterr().err.splitlines()
    assert "ModuleNotFoundError" in said
    assert "mlflow" in said


def test_import_leaves_mlflow_and_pandas_alone() -> None:
    code = "import sys, knowledge_gaps.tracking.live;"
    code += "sys.exit(len({'mlflow', 'pandas'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_off_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_TRACKING", "off")
    with CohortTracker(tmp_path, "tiny", *GANS, {0: {}}) as tracker:
        tracker.log(0, 10, {"loss": 1.25})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="KGAPS_TRACKING is 'off'"):
        sync_study(tmp_path, "tiny", COHORTS)
    monkeypatch.setenv("KGAPS_TRACKING", "of")
    with pytest.raises(UserError, match="KGAPS_TRACKING: 'of' found, 'on' or 'off'"):
        make_tracker(tmp_path)


def test_address_is_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "KGAPS_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    assert server.tracking_uri(Path()) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("DVC_ROOT", "/home/repository")
    monkeypatch.setenv("DVC_EXP_NAME", "an-experiment")
    assert server.tracking_uri(tmp_path) == "sqlite:////home/repository/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert server.tracking_uri(tmp_path) == "sqlite:////home/repository/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", REFUSED)
    assert server.tracking_uri(tmp_path) == REFUSED


@pytest.mark.parametrize("content", ["", "CREATE TABLE alembic_version (version_num TEXT)"])
def test_unfinished_database_is_set_aside(
    root: Path, capfd: pytest.CaptureFixture[str], content: str
) -> None:
    (root / "mlflow.db").unlink()
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.executescript(content)
    (root / "mlflow.db").touch()
    assert sync_study(root, "tiny", COHORTS)["runs created"] == 4
    assert "was never finished, it is now mlflow.db.unfinished" in capfd.readouterr().err
    assert (root / "mlflow.db.unfinished").exists()


@pytest.mark.slow
def test_killed_making_of_a_database_leaves_none(root: Path) -> None:
    (root / "mlflow.db").unlink()
    code = (
        "import sys; from pathlib import Path; from knowledge_gaps.tracking.sync import sync_study;"
    )
    code += "sync_study(Path(sys.argv[1]), 'tiny', [])"
    process = subprocess.Popen([sys.executable, "-c", code, str(root)])
    until = time.monotonic() + 120
    while not any(path.stat().st_size > 50_000 for path in root.glob(".mlflow.db.*.tmp")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (root / "mlflow.db").exists()
    assert sync_study(root, "tiny", COHORTS) == {"runs created": 4, "versions created": 2}
    assert not list(root.glob(".mlflow.db.*"))


@pytest.mark.slow
def test_processes_share_a_fresh_database(root: Path) -> None:
    (root / "mlflow.db").unlink()
    code = (
        "import sys; from pathlib import Path; from knowledge_gaps.tracking.sync import sync_study;"
    )
    code += "print(sync_study(Path(sys.argv[1]), 'tiny', [tuple(sys.argv[2:])])['runs created'])"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(root), *cohort], stdout=subprocess.PIPE)
        for cohort in COHORTS
    ]
    assert [process.communicate()[0] for process in started] == [b"2\n", b"2\n"]
    assert len(find_runs(root)) == 5
