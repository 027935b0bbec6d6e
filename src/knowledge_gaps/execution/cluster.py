"""Trainings of a cohort on a cluster: one array job for the cohort, a task for each instance.

submitit submits and requeues the tasks (extra `cluster`), on a shared disk.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import clean_environment
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import get_state_directory
from knowledge_gaps.core.signals import StopFlag
from knowledge_gaps.execution.assignment import Assignment, Callback, ProgressReader, try_training
from knowledge_gaps.execution.parallel import Executor, run_local

if TYPE_CHECKING:
    from submitit import Job
    from submitit.core.utils import DelayedSubmission

EXECUTOR_VARIABLE = "KGAPS_EXECUTOR"
_CLUSTERS = ("slurm", "local")  # local: submitit's processes on this machine, to try it out
_STOP_FILE = "stop"  # beside an instance's state; its training saves and ends
_COMMON = ("timeout_min", "mem_gb", "gpus_per_node", "cpus_per_task", "name")
_DEFAULTS = {"timeout_min": 24 * 60}
_POLL_SEC, _CHECK_SEC, _STOP_SEC = 1.0, 30.0, 60.0


def find_executor() -> Executor:
    """Return what KGAPS_EXECUTOR chooses: this machine, or CLUSTER[,KEY=VALUE...]."""
    text = os.environ.get(EXECUTOR_VARIABLE, "")
    if not text:
        return run_local
    cluster, *settings = text.split(",")
    if cluster not in _CLUSTERS:
        raise UserError(f"{EXECUTOR_VARIABLE}: {cluster!r} found, one of {_CLUSTERS} is needed")
    parameters: dict[str, Any] = dict(_DEFAULTS)
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not (key and sign and value):
            raise UserError(f"{EXECUTOR_VARIABLE}: {setting!r} found, KEY=VALUE is needed")
        name = key if key in _COMMON else f"slurm_{key}"
        parameters[name] = int(value) if value.isdecimal() else value
    return partial(run_cluster, cluster, parameters)


def run_cluster(
    cluster: str,
    parameters: Mapping[str, Any],
    assignments: Sequence[Assignment],
    callback: Callback,
    stop: StopFlag,
) -> dict[Instance, str]:
    """Train instances as the tasks of one array job, and wait for them; an `Executor`."""
    for entry in assignments:
        entry.directory.mkdir(parents=True, exist_ok=True)
        (entry.directory / _STOP_FILE).unlink(missing_ok=True)
    first = assignments[0]
    folder = get_state_directory(first.root) / "cluster" / f"{first.kind}-{first.name}"
    jobs = _submit(cluster, parameters, folder, assignments)
    print(f"{first.cohort_path}: submitted {len(jobs)} tasks to {cluster}, logs in {folder}")
    _wait(jobs, ProgressReader(assignments, callback), assignments, stop)
    failed = {
        entry.instance: _describe_failure(job)
        for entry, job in zip(assignments, jobs, strict=True)
        if not entry.is_finished
    }
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    return failed


class InstanceTask:
    """What a task of the job runs: the training of one instance.

    submitit calls `checkpoint` when it is preempted or reaches its time limit, and requeues it.
    """

    def __call__(self, assignment: Assignment) -> str | None:
        """Train or resume the instance; return why that failed, in one line."""
        clean_environment()  # the node's, which srun has added to, before torch is imported
        configure_process()
        return try_training(assignment, 0, _watch(assignment.directory / _STOP_FILE))

    def checkpoint(self, assignment: Assignment) -> DelayedSubmission:
        """Return what the requeued task runs."""
        from submitit.core.utils import DelayedSubmission

        return DelayedSubmission(self, assignment)


def _watch(path: Path) -> Callable[[], bool]:
    """Make a function that tells whether a file is there; it asks the shared disk once a second."""

    @lru_cache(maxsize=1)
    def exists(second: int) -> bool:
        return path.exists()

    return lambda: exists(int(time.monotonic()))


def _submit(
    cluster: str, parameters: Mapping[str, Any], folder: Path, assignments: Sequence[Assignment]
) -> list[Job[str | None]]:
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise UserError(
            f"{EXECUTOR_VARIABLE}: {cluster!r} found, but submitit is not installed "
            "(pip install 'knowledge-gaps[cluster]')"
        ) from error
    try:
        executor = AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**{"name": assignments[0].name, **parameters})
        with executor.batch():
            return [executor.submit(InstanceTask(), entry) for entry in assignments]
    except (NameError, RuntimeError, TypeError, ValueError, OSError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{EXECUTOR_VARIABLE}: {cluster} refuses the job: {text}") from error


def _wait(
    jobs: Sequence[Job[str | None]],
    progress: ProgressReader,
    assignments: Sequence[Assignment],
    stop: StopFlag,
) -> None:
    """Wait for the end of all tasks; raises StoppedError when they were stopped before."""
    checked_at = time.monotonic()
    while True:
        # a killed task leaves no result; the scheduler is asked for its state now and then
        is_due = time.monotonic() - checked_at > _CHECK_SEC
        checked_at = time.monotonic() if is_due else checked_at
        running = [job for job in jobs if not job.done(force_check=is_due)]
        progress.poll()
        if not running:
            return
        if stop.is_set():
            _stop(running, assignments)
            raise StoppedError
        time.sleep(_POLL_SEC)


def _stop(running: Sequence[Job[str | None]], assignments: Sequence[Assignment]) -> None:
    """Let trainings save their states; cancel the tasks that wait, or do not end by themselves."""
    for entry in assignments:
        (entry.directory / _STOP_FILE).touch()
    left, until = [job for job in running if job.state != "PENDING"], time.monotonic() + _STOP_SEC
    for job in running:
        if job not in left:
            job.cancel(check=False)
    while left and time.monotonic() < until:
        time.sleep(_POLL_SEC)
        left = [job for job in left if not job.done()]
    for job in left:
        job.cancel(check=False)


def _describe_failure(job: Job[str | None]) -> str:
    """Say why an instance is not trained, with the path of its task's log."""
    text = job.result() if job.paths.result_pickle.exists() else None
    reason = text or f"its task ended without a result ({job.state})"
    return f"{reason} (log: {job.paths.stderr})"
