"""MLflow's address and connection, and a training that is shown while it goes on.

A thread sends the points one after the other. mlflow's own queue does so too, but at the end of a
process it waits without a limit for a server that hangs.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import replace_atomically
from knowledge_gaps.core.layout import get_home, get_state_directory

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_CLOSE_SEC = 10.0
_EXPERIMENT = "knowledge-gaps"
_SQLITE = "sqlite:///"
_LOCK_SEC = 120.0  # longer than another process's whole sync
_SETTINGS = {  # by MLflow's defaults, a server that is away costs four minutes a call
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}


def tracking_uri(root: Path) -> str | None:
    """Return MLFLOW_TRACKING_URI, else the root's mlflow.db; None when KGAPS_TRACKING is "off".

    Experiments of DVC's queue use the database of the repository that they belong to. Raises
    UserError when KGAPS_TRACKING is neither "on" nor "off".
    """
    switch = os.environ.get("KGAPS_TRACKING") or "on"
    if switch not in ("on", "off"):
        raise UserError(f"KGAPS_TRACKING: {switch!r} found, 'on' or 'off' is needed")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    if uri.startswith(_SQLITE):  # a relative path starts in the root, not where the process is
        uri = f"{_SQLITE}{get_home(root).resolve() / uri.removeprefix(_SQLITE)}"
    return uri if switch == "on" else None


@contextmanager
def open_experiment(root: Path, uri: str) -> Iterator[tuple[MlflowClient, str]]:
    """Connect to MLflow, with this repository's other processes waiting meanwhile.

    Gives the client and the id of the experiment that holds all studies; raises whatever MLflow
    raises when it is away or not installed.
    """
    os.environ.update({name: os.environ.get(name, _SETTINGS[name]) for name in _SETTINGS})
    from mlflow.tracking import MlflowClient

    home, artifacts = get_home(root).resolve(), None
    state = get_state_directory(home)
    state.mkdir(exist_ok=True)
    with FileLock(state / "tracking.lock", _LOCK_SEC):
        if uri.startswith(_SQLITE):
            make_database(Path(uri.removeprefix(_SQLITE)))
            artifacts = (home / "mlartifacts").as_uri()
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(_EXPERIMENT)
        identifier = found and found.experiment_id
        yield client, identifier or client.create_experiment(_EXPERIMENT, artifacts)


def make_database(path: Path) -> None:
    """Make MLflow's sqlite database where there is none; a kill leaves no half of it."""
    from mlflow.tracking import MlflowClient

    if not path.exists():
        with replace_atomically(path) as temporary:
            MlflowClient(f"{_SQLITE}{temporary}").search_experiments()


def describe_failure(uri: str, error: BaseException) -> str:
    """Say in one line what failed, without what may be secret in an address."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    host = re.match(r"([\w+]+://)(?:.*@)?([^/?#]*)", uri)
    shown = uri if uri.startswith(_SQLITE) or host is None else "".join(host.groups())
    said = "" if "@" in uri or "?" in uri else f": {' '.join(str(error).split())[:160]}"
    return f"{shown} could not be updated ({type(error).__name__}{said})"


class CohortTracker:
    """Context manager that shows the training of a cohort in MLflow, a run for each instance.

    The runs end FINISHED, KILLED after an interrupt, or FAILED; `sync_study` replaces them by whole
    ones. When MLflow fails, this is said in one line and nothing is sent any more.
    `live` holds, by instance, the part of its meta.json that is known before the training.
    """

    def __init__(
        self, root: Path, study: str, kind: str, cohort: str, live: Mapping[int, Mapping[str, Any]]
    ) -> None:
        self._uri = tracking_uri(root)
        self._runs: dict[int, Run] = {}
        self._thread = ThreadPoolExecutor(1)
        self._submit(self._open, root, study, f"{kind}/{cohort}", live)

    def __enter__(self) -> Self:
        """Return the tracker itself."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close the runs; what is not sent within ten seconds is dropped."""
        is_stop = isinstance(error, StoppedError | KeyboardInterrupt)
        status = "FINISHED" if error is None else "KILLED" if is_stop else "FAILED"
        with suppress(TimeoutError):
            self._submit(self._close, status).result(_CLOSE_SEC)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def log(self, instance: int, step: int, values: Mapping[str, float]) -> None:
        """Hand over the metrics of one step, named as the columns of curves.csv; never blocks."""
        self._submit(self._write, instance, [(name, values[name], step) for name in values])

    def _submit(self, function: Callable[..., None], *arguments: object) -> Future[None]:
        return self._thread.submit(self._attempt, function, *arguments)

    def _attempt(self, function: Callable[..., None], *arguments: object) -> None:
        if self._uri is not None:
            try:
                function(*arguments)
            except Exception as error:  # no view of a training may cost the training
                line = f"tracking: {describe_failure(self._uri, error)}; training goes on, "
                print(f"{line}`kgaps track sync` fills the gap later", file=sys.stderr, flush=True)
                self._uri = None

    def _open(self, root: Path, study: str, path: str, live: Mapping[int, Any]) -> None:
        from knowledge_gaps.tracking.sync import StudyRuns  # with pandas, which takes a moment

        with open_experiment(root, str(self._uri)) as (client, experiment):
            self._study = StudyRuns(root, client, experiment, study)
            for instance, meta in live.items():
                self._runs[instance] = self._study.begin(f"{path}/{instance}", meta)

    def _write(self, instance: int, points: list[tuple[str, float, int]]) -> None:
        if instance in self._runs:
            self._study.write(self._runs[instance], points, {})

    def _close(self, status: str) -> None:
        for run in self._runs.values():
            self._study.client.set_terminated(run.info.run_id, status)
