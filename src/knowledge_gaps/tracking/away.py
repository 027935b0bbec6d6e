"""A server that is away: said once, and not asked again for some minutes.

`dvc repro` is a chain of processes, and each of them would wait for the same server. So the
first one that fails leaves a small file in the state directory, and until that is old the others
neither ask nor say anything. `kgaps track sync` always asks. Nothing here knows mlflow.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.layout import get_state_directory

AWAY_FILE = "tracking_away.json"
AWAY_SEC = 600.0  # so long a server that is away is not asked again

_lock = threading.Lock()  # the live thread and the training's both report
_said: set[str] = set()  # URIs of which this process said something
_away: set[str] = set()  # URIs that did not answer this process
_stuck: set[str] = set()  # URIs that a thread of this process still waits for


def is_away(root: Path, uri: str) -> bool:
    """Tell whether to spare asking: the server was away for this process, or a moment ago.

    Args:
        root: the repository's root.
        uri: where MLflow is.
    """
    if uri in _away:
        return True
    try:
        known = read_json(_get_file(root))
        age_sec = time.time() - float(known["failed_at"])
    except (UserError, KeyError, TypeError, ValueError):  # no file, or no sound one
        return False
    return known.get("uri") == _hide_password(uri) and 0 <= age_sec < AWAY_SEC


def report_failure(root: Path, uri: str, error: Exception) -> None:
    """Say on stderr that MLflow could not be brought up to date, and remember who was away.

    Args:
        root: the repository's root.
        uri: where MLflow is.
        error: what went wrong; a process says one line for a URI, and a server that is known to
            be away is not worth any.
    """
    with _lock:
        is_said = uri in _said
        if _is_absence(uri, _find_cause(error)):
            is_said = is_said or is_away(root, uri)
            _away.add(uri)
            with suppress(UserError):  # a full disk is no reason to stop a training
                content = {"uri": _hide_password(uri), "failed_at": time.time()}
                write_json(_get_file(root), content)
        _said.add(uri)
    if not is_said:
        line = f"tracking: {describe_failure(uri, error)}; training goes on, "
        print(f"{line}`kgaps track sync` fills the gap later", file=sys.stderr, flush=True)


def forget_failure(root: Path, uri: str) -> None:
    """Forget that a server was away, once it has answered."""
    with _lock, suppress(OSError):
        _away.discard(uri)
        _get_file(root).unlink(missing_ok=True)


def note_stuck(uri: str) -> None:
    """Note that a thread was left behind while it waits for a server; a local file is none."""
    if not _is_local(uri):
        _stuck.add(uri)


def is_stuck(uri: str) -> bool:
    """Tell whether a thread was left behind, which may hold the lock."""
    return uri in _stuck


def describe_failure(uri: str, error: Exception) -> str:
    """Say in one line what went wrong, without the passwords that a URI may hold."""
    if isinstance(error, ModuleNotFoundError):
        return f"{str(error.name).partition('.')[0]} is not installed"
    cause = _find_cause(error)
    is_absence = _is_absence(uri, cause)
    shown = cause if is_absence else error
    lines = str(shown).splitlines() or [""]
    verb = "does not answer" if is_absence else "could not be updated"
    return f"{_hide_password(uri)} {verb} ({type(shown).__name__}: {lines[0][:160]})"


def _get_file(root: Path) -> Path:
    return get_state_directory(root) / AWAY_FILE


def _hide_password(uri: str) -> str:
    return re.sub(r"//[^@/]*@", "//", uri)


def _is_local(uri: str) -> bool:
    return uri.startswith("sqlite:")


def _find_cause(error: BaseException) -> BaseException:
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return error


def _is_absence(uri: str, cause: BaseException) -> bool:
    """Tell whether nobody answered, in contrast to an answer that was a refusal."""
    if _is_local(uri):
        return False
    # By name, as neither library need be installed: a gateway without a server behind it, and a
    # database that cannot be reached.
    is_http = type(cause).__module__.startswith("urllib3.")
    is_database = type(cause).__name__ == "OperationalError"
    is_socket = isinstance(cause, ConnectionError | TimeoutError | socket.gaierror)
    return is_http or is_database or is_socket
