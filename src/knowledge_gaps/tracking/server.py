"""MLflow behind plain data: the only module of the package that imports mlflow.

Imports happen inside functions, so that a machine without mlflow trains all the same. What the
runs mean is told by `records`; nothing here knows a cohort.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import get_home, get_state_directory
from knowledge_gaps.tracking.records import STUDY, Point

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "knowledge-gaps"
DATABASE_FILE = "mlflow.db"
ARTIFACTS_DIRECTORY = "mlartifacts"
LOCK_FILE = "tracking.lock"
SWITCH = "KGAPS_TRACKING"
LOCK_SEC = 120.0  # longer than a whole sync of another process takes

_URI = "MLFLOW_TRACKING_URI"
# Patience first: by MLflow's defaults a server that is away costs four minutes a call.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow takes 1000 entities a call, of them at most 100 parameters and 100 tags.
_METRICS_A_CALL = 800
_PARAMS_A_CALL = _TAGS_A_CALL = 100
_PARAM_CHARACTERS = 6000  # MLflow cuts longer ones
_PAGE = 1000


@dataclass(frozen=True)
class RunState:
    """What MLflow holds of a run: the last value of every metric, all parameters and tags."""

    run_id: str
    status: str
    start_time_ms: int
    artifact_uri: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VersionState:
    """What the registry holds of one version of a model."""

    model: str
    version: str
    tags: Mapping[str, str]


def tracking_uri(root: Path) -> str | None:
    """Tell where runs are shown.

    Args:
        root: the repository's root, home of the default database.

    Returns:
        None when KGAPS_TRACKING is "off"; MLFLOW_TRACKING_URI when that is set; else the sqlite
        database in `root`, or in the repository that an experiment's folder belongs to. MLflow's
        own default depends on the current directory.

    Raises:
        UserError: when KGAPS_TRACKING is neither "on" nor "off", as a misspelt "off" is.
    """
    switch = os.environ.get(SWITCH) or "on"
    if switch not in ("on", "off"):
        raise UserError(
            f"{SWITCH}: {switch!r} found, 'on' or 'off' is needed; an address goes to {_URI}"
        )
    if switch == "off":
        return None
    return os.environ.get(_URI) or f"sqlite:///{get_home(root).resolve() / DATABASE_FILE}"


class TrackingServer:
    """A connection to MLflow in terms of plain data, made by `connect`."""

    def __init__(self, client: MlflowClient, experiment_id: str, lock: FileLock) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._lock = lock

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the other processes of this machine from writing: look-up and creation are two."""
        with self._lock:
            yield

    def find_runs(self, study: str) -> list[RunState]:
        """Find all runs of a study, the newest first, in one call for a thousand runs."""
        query: dict[str, Any] = {
            "experiment_ids": [self._experiment_id],
            "filter_string": f"tags.`{STUDY}` = '{study}'",
            "max_results": _PAGE,
            "order_by": ["attributes.start_time DESC"],
        }
        runs = self._client.search_runs(**query)
        found = list(runs)
        while runs.token:
            runs = self._client.search_runs(**query, page_token=runs.token)
            found += runs
        return [_read_run(run) for run in found]

    def create_run(self, name: str, tags: Mapping[str, str]) -> RunState:
        """Create a run; it is RUNNING."""
        run = self._client.create_run(self._experiment_id, tags=dict(tags), run_name=name)
        return _read_run(run)

    def set_status(self, run_id: str, status: str) -> None:
        """Set a run to RUNNING, FINISHED, FAILED or KILLED."""
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status=status)

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics, parameters and tags in as few calls as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        now_ms = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now_ms, step) for name, value, step in points]
        stored = [Param(*item) for item in self._shorten(run_id, params or {}).items()]
        labels = [RunTag(*item) for item in (tags or {}).items()]
        while metrics or stored or labels:
            self._client.log_batch(
                run_id,
                metrics=metrics[:_METRICS_A_CALL],
                params=stored[:_PARAMS_A_CALL],
                tags=labels[:_TAGS_A_CALL],
            )
            metrics = metrics[_METRICS_A_CALL:]
            stored, labels = stored[_PARAMS_A_CALL:], labels[_TAGS_A_CALL:]

    def _shorten(self, run_id: str, params: Mapping[str, str]) -> dict[str, str]:
        """Put parameters that MLflow would cut into the artifact long_params.json, and say so."""
        long = {name: text for name, text in params.items() if len(text) > _PARAM_CHARACTERS}
        if long:
            self._client.log_dict(run_id, long, "long_params.json")
        note = "{} characters, see the artifact long_params.json"
        return {k: note.format(len(v)) if k in long else v for k, v in params.items()}

    def log_file(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Copy a file to the artifacts of a run."""
        self._client.log_artifact(run_id, str(path), folder)

    def find_points(self, run: RunState) -> set[tuple[str, int]]:
        """Find which points of the metrics a run holds already, as (name, step)."""
        return {
            (name, point.step)
            for name in run.metrics
            for point in self._client.get_metric_history(run.run_id, name)
        }

    def find_versions(self, prefix: str) -> list[VersionState]:
        """Find all versions of the models whose names start with `prefix`.

        LIKE takes "_" for any character, and in some databases upper case for lower case, so what
        it finds is looked at again.
        """
        query: dict[str, Any] = {"filter_string": f"name LIKE '{prefix}%'", "max_results": _PAGE}
        versions = self._client.search_model_versions(**query)
        found = list(versions)
        while versions.token:
            versions = self._client.search_model_versions(**query, page_token=versions.token)
            found += versions
        named = [version for version in found if version.name.startswith(prefix)]
        return [VersionState(v.name, str(v.version), dict(v.tags)) for v in named]

    def find_models(self, prefix: str) -> dict[str, dict[str, str]]:
        """Find the models whose names start with `prefix`, each with its aliases, alike."""
        query: dict[str, Any] = {"filter_string": f"name LIKE '{prefix}%'", "max_results": _PAGE}
        models = self._client.search_registered_models(**query)
        found = list(models)
        while models.token:
            models = self._client.search_registered_models(**query, page_token=models.token)
            found += models
        named = [model for model in found if model.name.startswith(prefix)]
        return {m.name: {alias: str(m.aliases[alias]) for alias in m.aliases} for m in named}

    def create_model(self, name: str) -> None:
        """Create a registered model."""
        self._client.create_registered_model(name)

    def create_version(
        self, model: str, run: RunState, folder: str, tags: Mapping[str, str]
    ) -> VersionState:
        """Register a folder of a run's artifacts as a new version of a model."""
        source = f"{run.artifact_uri}/{folder}"
        made = self._client.create_model_version(model, source, run.run_id, tags=dict(tags))
        return VersionState(model, str(made.version), dict(tags))

    def tag_version(self, version: VersionState, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for name in tags:
            self._client.set_model_version_tag(version.model, version.version, name, tags[name])

    def set_alias(self, version: VersionState, alias: str) -> None:
        """Point an alias of the model at a version."""
        self._client.set_registered_model_alias(version.model, alias, version.version)


def _read_run(run: Any) -> RunState:
    info, data = run.info, run.data
    return RunState(
        run_id=info.run_id,
        status=info.status,
        start_time_ms=info.start_time,
        artifact_uri=info.artifact_uri,
        params=dict(data.params),
        metrics=dict(data.metrics),
        tags=dict(data.tags),
    )


def connect(root: Path, uri: str, lock_sec: float = LOCK_SEC) -> TrackingServer:
    """Connect to MLflow; a missing sqlite database is created by one process at a time.

    Args:
        root: the repository's root, home of the lock file and of the artifacts beside sqlite.
        uri: as `tracking_uri` gives it.
        lock_sec: how long to wait whenever another process, or another thread, holds the lock.

    Raises:
        ModuleNotFoundError: when mlflow is not installed.
        TimeoutError: when the lock is held for longer.
        Exception: whatever MLflow raises when the server is away; there is no common class.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read at import; it asks an outside host
    for name in _DEFAULTS:
        os.environ.setdefault(name, _DEFAULTS[name])
    from mlflow.tracking import MlflowClient

    root = get_home(root).resolve()  # experiments of DVC's queue share it, and the lock
    state = get_state_directory(root)
    state.mkdir(exist_ok=True)
    lock = FileLock(state / LOCK_FILE, timeout=lock_sec)
    with lock:  # processes that migrate one fresh database at once crash
        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return TrackingServer(client, experiment.experiment_id, lock)
        artifacts = (root / ARTIFACTS_DIRECTORY).as_uri() if uri.startswith("sqlite:") else None
        return TrackingServer(client, client.create_experiment(EXPERIMENT, artifacts), lock)
