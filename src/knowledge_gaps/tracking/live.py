"""Show a training while it goes on, without ever making it wait.

Points go into a queue; a daemon thread, the only one that imports mlflow, sends them on every
few seconds. Whatever fails there is said in one line, and the points are dropped: the finished
run gets them from curves.csv, see `sync`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from knowledge_gaps.core.errors import StoppedError
from knowledge_gaps.tracking import away, records
from knowledge_gaps.tracking.runs import (
    IDENTITY,
    create_child,
    find_parent,
    get_key,
    is_alive,
    is_complete,
    sign_life,
)
from knowledge_gaps.tracking.server import (
    RunState,
    TrackingServer,
    connect,
    tracking_uri,
)

FLUSH_SEC = 3.0
LIFE_SEC = 60.0  # a sign of life at least so often
CLOSE_SEC = 10.0
_RUNNING = "RUNNING"
_QUEUE_POINTS = 100_000  # beyond that points are dropped: the server does not keep up


@dataclass(frozen=True)
class LiveInstance:
    """What is known of an instance before its training.

    Attributes:
        identity: whatever the result depends on, as one string; a resumed training has the same.
        meta: the part of meta.json that is known: settings, cohort_settings, lineage, ...
    """

    identity: str
    meta: Mapping[str, Any] = field(default_factory=dict)


class CohortTracker:
    """Shows the training of a cohort, a run for each instance; used by the parent process.

    As a context manager it leaves the runs RUNNING for `sync_cohort` to finish, KILLED when the
    training was interrupted, FAILED when it failed. A resumed training takes its runs up again.
    """

    def __init__(
        self,
        root: Path,
        study: str,
        kind: str,
        cohort: str,
        instances: Mapping[int, LiveInstance],
    ) -> None:
        """Start to connect in the background.

        Args:
            root: the repository's root.
            study: the study's name.
            kind: "gans" or "classifiers".
            cohort: the cohort's name.
            instances: the instances that are trained now, by their number.
        """
        self._root, self._study, self._instances = root, study, dict(instances)
        self._kind, self._cohort = str(kind), cohort
        self._queue: queue.Queue[tuple[int, records.Point]] = queue.Queue(_QUEUE_POINTS)
        self._closing, self._abandoned = threading.Event(), threading.Event()
        self._end_status: str | None = None
        self._runs: dict[int, RunState] = {}
        self._known: dict[int, set[tuple[str, int]]] = {}  # (name, step) that a run has already
        self._thread: threading.Thread | None = None
        uri = tracking_uri(root)
        self._uri = uri
        if uri is not None and not away.is_away(root, uri):
            self._thread = threading.Thread(target=self._work, args=(uri,), daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        """Return the tracker itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the runs as the training ended."""
        if kind is not None:
            is_stop = issubclass(kind, StoppedError | KeyboardInterrupt)
            self._end_status = "KILLED" if is_stop else "FAILED"
        self.close()

    def log(self, instance: int, step: int, values: Mapping[str, float]) -> None:
        """Hand over the numbers of one step; never blocks.

        Args:
            instance: a key of `instances`.
            step: optimiser updates so far.
            values: metrics by the names that curves.csv has as columns.
        """
        if self._thread is None or not self._thread.is_alive():
            return
        for name, value in values.items():
            try:
                point = (records.clean_name(name), float(value), step)
                self._queue.put_nowait((instance, point))
            except queue.Full:
                return

    def close(self, timeout_sec: float = CLOSE_SEC) -> None:
        """Send what is left, waiting for at most `timeout_sec`; later points are dropped."""
        if self._thread is not None:
            self._closing.set()
            self._thread.join(timeout_sec)
            self._abandoned.set()
            if self._thread.is_alive() and self._uri is not None:
                away.note_stuck(self._uri)
            self._thread = None

    def _work(self, uri: str) -> None:
        """Open the runs and send points until closed; the body of the thread."""
        try:
            server = connect(self._root, uri)
            with server.hold():
                self._open_runs(server)
            away.forget_failure(self._root, uri)
            signed_at = time.monotonic()
            while not self._closing.wait(FLUSH_SEC):
                is_due = time.monotonic() - signed_at >= LIFE_SEC
                signed_at = time.monotonic() if is_due else signed_at
                self._flush(server, sign_life() if is_due else {})
            self._flush(server, {})
            self._end_runs(server)
        except Exception as error:  # no view of a training may cost the training
            away.report_failure(self._root, uri, error)

    def _open_runs(self, server: TrackingServer) -> None:
        if self._abandoned.is_set():
            return
        runs = server.find_runs(self._study)
        parent = find_parent(server, self._study, runs)
        commit = records.describe_commit(self._root)
        for instance, live in self._instances.items():
            if self._abandoned.is_set():
                return  # `sync_cohort` waits for the lock
            key = (self._kind, self._cohort, instance)
            run = _find_run(runs, key, live.identity)
            if run is None:
                run = create_child(server, parent, key, commit | {IDENTITY: live.identity})
            elif is_complete(run):
                continue  # trained again though nothing changed: it is shown already
            elif run.status == _RUNNING and is_alive(run):
                continue  # another process shows it, and has the cohort
            self._known[instance] = server.find_points(run)
            self._runs[instance] = run
            params = records.collect_params(live.meta)
            new = {name: params[name] for name in params if name not in run.params}
            server.write(run.run_id, (), new, records.collect_inputs(live.meta) | sign_life())
            if run.status != _RUNNING:
                server.set_status(run.run_id, _RUNNING)

    def _flush(self, server: TrackingServer, tags: Mapping[str, str]) -> None:
        points: dict[int, list[records.Point]] = {instance: [] for instance in self._runs}
        while not self._queue.empty():
            instance, point = self._queue.get_nowait()
            known = self._known.get(instance, set())
            if instance in points and (point[0], point[2]) not in known:
                known.add((point[0], point[2]))
                points[instance].append(point)
        if not tags and not any(points.values()):
            return
        with server.hold():
            for instance, run in self._runs.items():
                if not self._abandoned.is_set():
                    server.write(run.run_id, points[instance], {}, tags)

    def _end_runs(self, server: TrackingServer) -> None:
        with server.hold():
            for run in self._runs.values():
                if self._end_status is not None and not self._abandoned.is_set():
                    server.set_status(run.run_id, self._end_status)


def _find_run(
    runs: Sequence[RunState], key: tuple[str, str, int], identity: str
) -> RunState | None:
    for run in runs:
        if get_key(run) == key and run.tags.get(IDENTITY) == identity:
            return run
    return None
