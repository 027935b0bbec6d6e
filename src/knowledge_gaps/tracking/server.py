"""Where MLflow is, and the connection to it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import replace_atomically
from knowledge_gaps.core.layout import get_home, get_state_directory

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

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

    Experiments of DVC use the database of the repository that they belong to. Raises
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
