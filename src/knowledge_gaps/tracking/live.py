"""A training that MLflow shows while it goes on.

A thread sends the points one after the other. mlflow's own queue does so too, but at the end of a
process it waits without a limit for a server that hangs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from knowledge_gaps.core.errors import StoppedError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.tracking.server import describe_failure, open_experiment, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run

_CLOSE_SEC = 10.0


class CohortTracker:
    """Context manager that shows the training of a cohort in MLflow, a run for each instance.

    The runs end FINISHED, KILLED after an interrupt, or FAILED; `sync_study` replaces them by whole
    ones. When MLflow fails, this is said in one line and nothing is sent any more.
    `live` holds, by instance, the part of its meta.json that is known before the training.
    """

    def __init__(
        self,
        root: Path,
        study: str,
        kind: str,
        cohort: str,
        live: Mapping[Instance, Mapping[str, Any]],
    ) -> None:
        self._uri = tracking_uri(root)
        self._runs: dict[Instance, Run] = {}
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

    def log(self, instance: Instance, step: int, values: Mapping[str, float]) -> None:
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

    def _open(self, root: Path, study: str, path: str, live: Mapping[Instance, Any]) -> None:
        from knowledge_gaps.tracking.sync import StudyRuns  # with pandas, which takes a moment

        with open_experiment(root, str(self._uri)) as (client, experiment):
            self._study = StudyRuns(root, client, experiment, study)
            for instance, meta in live.items():
                self._runs[instance] = self._study.begin(f"{path}/{instance}", meta)

    def _write(self, instance: Instance, points: list[tuple[str, float, int]]) -> None:
        if instance in self._runs:
            self._study.write(self._runs[instance], points, {})

    def _close(self, status: str) -> None:
        for run in self._runs.values():
            self._study.client.set_terminated(run.info.run_id, status)
