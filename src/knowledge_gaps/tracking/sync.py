"""Bring MLflow to what the files say, and write nothing where it says so already.

What is missing or differs is found by comparing with MLflow itself, so an interrupted or repeated
sync ends in the same state. `runs` tells the runs apart, `registry` keeps the versions of the
classifiers, and `live` leaves runs behind that are finished here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.core.layout import CURVES_FILE, GRID_FILE, META_FILE
from knowledge_gaps.tracking import away, records
from knowledge_gaps.tracking.measurements import Measurements
from knowledge_gaps.tracking.records import InstanceRecord
from knowledge_gaps.tracking.registry import MODEL_FOLDER, Registry
from knowledge_gaps.tracking.runs import (
    SAME_AS,
    create_child,
    find_parent,
    get_key,
    is_alive,
    is_own,
    is_training_of,
)
from knowledge_gaps.tracking.server import (
    LOCK_SEC,
    SWITCH,
    RunState,
    TrackingServer,
    connect,
    tracking_uri,
)

_PARENT_FILES = ("params.yaml", "reports/index.html")
_RUN_COUNTS = ("created", "updated", "unchanged", "closed")
_STUCK_LOCK_SEC = 10.0  # the live thread that was left behind may never release the lock


@dataclass(frozen=True)
class SyncReport:
    """What a sync did; all counts but `unchanged` are writes.

    Attributes:
        runs_created: runs of instances that MLflow did not know.
        runs_updated: runs that got something new, live runs that were finished among them.
        runs_unchanged: runs that were complete.
        runs_closed: runs whose training is gone, or ended with bytes that another run shows.
        versions_created: classifiers that the registry did not know.
        versions_updated: versions that got new tags or the alias.
        versions_unchanged: versions that were complete.
        study_updated: whether the parent run got something new.
    """

    runs_created: int = 0
    runs_updated: int = 0
    runs_unchanged: int = 0
    runs_closed: int = 0
    versions_created: int = 0
    versions_updated: int = 0
    versions_unchanged: int = 0
    study_updated: bool = False


def sync_study(
    root: Path, study: str, cohorts: Sequence[tuple[str, str]], *, strict: bool = False
) -> SyncReport:
    """Bring MLflow to what the files of a study say.

    Args:
        root: the repository's root.
        study: the study's name.
        cohorts: (kind, name) of every cohort of the study; other directories are left aside, and
            cohorts that are not trained yet too.
        strict: raise when MLflow cannot be brought up to date; else it is one line on stderr.

    Returns:
        What was done; all zero when tracking is off or failed.

    Raises:
        UserError: when strict, and tracking is off or fails.
    """

    def update(server: TrackingServer) -> SyncReport:
        session = _Session(server, root, study, Measurements.read(root))
        hashes = records.read_dvc_hashes(root)
        for kind, cohort in _order(cohorts):
            session.sync_instances(kind, cohort, hashes.get((kind, cohort)))
        session.retire_others(lambda run: True)
        session.sync_parent()
        return session.report

    return _guard(root, strict, update)


def sync_cohort(
    root: Path, study: str, kind: str, cohort: str, *, strict: bool = False
) -> SyncReport:
    """Bring MLflow to what the files of one cohort say, right after its training.

    The two tables and dvc.lock are not read: at that time they still tell of an older training.

    Args:
        root: the repository's root.
        study: the study's name.
        kind: "gans" or "classifiers".
        cohort: the cohort's name.
        strict: as in `sync_study`.

    Returns:
        What was done; all zero when tracking is off or failed.

    Raises:
        UserError: when strict, and tracking is off or fails.
    """

    def update(server: TrackingServer) -> SyncReport:
        session = _Session(server, root, study, Measurements([], [], {}))
        session.sync_instances(kind, cohort, None)
        session.retire_others(lambda run: get_key(run)[:2] == (kind, cohort))
        return session.report

    return _guard(root, strict, update)


def _guard(root: Path, strict: bool, update: Callable[[TrackingServer], SyncReport]) -> SyncReport:
    """Run an update; a failure is an error when strict, else one line, see `away`."""
    uri = tracking_uri(root)
    if uri is None:
        if strict:
            raise UserError(f"{SWITCH} is 'off': unset it to sync, or set 'on'")
        return SyncReport()
    if not strict and away.is_away(root, uri):
        return SyncReport()
    try:
        server = connect(root, uri, _STUCK_LOCK_SEC if away.is_stuck(uri) else LOCK_SEC)
        with server.hold():
            report = update(server)
    except Exception as error:  # no view of a result may cost the result
        if not strict:
            away.report_failure(root, uri, error)
            return SyncReport()
        if isinstance(error, UserError):
            raise
        raise UserError(f"tracking: {away.describe_failure(uri, error)}") from error
    away.forget_failure(root, uri)
    return report


def _order(cohorts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Put classifiers first: the runs of GANs name the registry's versions of classifiers."""
    return sorted(((str(kind), name) for kind, name in cohorts), key=lambda c: c[0] == "gans")


@dataclass(frozen=True)
class _Content:
    """What a run has to say: metrics, their step, parameters and tags."""

    metrics: Mapping[str, float]
    step: int
    params: Mapping[str, str]
    tags: Mapping[str, str]


class _Session:
    """One pass over the cohorts of a study, with everything that MLflow holds of it read once."""

    def __init__(
        self, server: TrackingServer, root: Path, study: str, measurements: Measurements
    ) -> None:
        self._server = server
        self._root = root
        self._measurements = measurements
        self._runs = server.find_runs(study)
        self._parent = find_parent(server, study, self._runs)
        self._registry = Registry(server, study)
        self._used: set[str] = set()  # ids of the runs of current instances
        self._same: dict[str, str] = {}  # by a run's id that of the one that shows its result
        self._commit: dict[str, str] | None = None
        self._counts: Counter[str] = Counter()  # runs, by what was done to them
        self._is_study_updated = False

    @property
    def report(self) -> SyncReport:
        """What was done so far."""
        return SyncReport(
            **{f"runs_{name}": self._counts[name] for name in _RUN_COUNTS},
            versions_created=self._registry.created,
            versions_updated=self._registry.updated,
            versions_unchanged=self._registry.unchanged,
            study_updated=self._is_study_updated,
        )

    def sync_instances(self, kind: str, cohort: str, dvc_md5: str | None) -> None:
        """Bring the runs and versions of a cohort to what its files say."""
        for record in records.read_cohort(self._root, kind, cohort):
            tags = records.collect_tags(record) | self._registry.name_versions(record)
            if dvc_md5 is not None:
                tags[records.DVC_MD5] = dvc_md5
            run = self._sync_run(record, tags)
            self._used.add(run.run_id)
            if kind == "classifiers":
                summary = self._measurements.summarise_classifier(record)
                self._registry.sync_version(record, run, summary)

    def retire_others(self, is_concerned: Callable[[RunState], bool]) -> None:
        """Mark the runs of older trainings, and close those whose training is gone."""
        for run in self._runs:
            if run.run_id in self._used or run is self._parent or not is_concerned(run):
                continue
            if run.tags.get(records.CURRENT) == "true":
                self._server.write(run.run_id, tags={records.CURRENT: "false"})
                self._counts["updated"] += 1
            if run.status == "RUNNING" and not is_alive(run):
                self._close(run)
                self._counts["closed"] += 1

    def _close(self, run: RunState) -> None:
        """End a live run without a result of its own: another run shows it, or there is none."""
        if run.run_id in self._same:
            self._server.write(run.run_id, tags={SAME_AS: self._same[run.run_id]})
            self._finish(run)
        else:
            self._server.set_status(run.run_id, "KILLED")

    def sync_parent(self) -> None:
        """Bring the headline numbers and the study's files to the parent run."""
        paths = {name: self._root / name for name in _PARENT_FILES}
        hashes = {
            f"kgaps.sha256.{name}": hash_file(paths[name])
            for name in _PARENT_FILES
            if paths[name].is_file()
        }
        for tag in _differ(hashes, self._parent.tags):
            self._server.log_file(self._parent.run_id, paths[tag.removeprefix("kgaps.sha256.")])
        target = _Content(self._measurements.headline, 0, {}, hashes)
        self._is_study_updated = self._write_differences(self._parent, target)

    def _sync_run(self, record: InstanceRecord, tags: Mapping[str, str]) -> RunState:
        target = _Content(
            metrics=self._measurements.collect_metrics(record),
            step=int(record.meta["steps"]),
            params=records.collect_params(record.meta),
            tags=tags,
        )
        for run in self._runs:
            if run.tags.get(records.META_SHA256) == record.meta_sha256:
                changed = self._write_differences(run, target) | self._finish(run)
                self._counts["updated" if changed else "unchanged"] += 1
                self._note_repeats(record, run)
                return run
        for run in self._runs:
            if is_training_of(run, record) and not is_alive(run):
                self._complete_run(run, record, target)
                self._counts["updated"] += 1
                return run
        run = create_child(self._server, self._parent, record.key, self._describe_commit())
        self._complete_run(run, record, target)
        self._counts["created"] += 1
        return run

    def _note_repeats(self, record: InstanceRecord, shown: RunState) -> None:
        """Note what this process trained again, by other code, to the bytes that a run shows.

        Of other processes nobody knows whether their training came to an end.
        """
        for run in self._runs:
            if is_own(run) and is_training_of(run, record):
                self._same[run.run_id] = shown.run_id

    def _complete_run(self, run: RunState, record: InstanceRecord, target: _Content) -> None:
        """Write all of a run; the tag that makes it a finished one comes last."""
        known = self._server.find_points(run)
        curves = records.read_curves(record.directory / CURVES_FILE)
        points = [point for point in curves if (point[0], point[2]) not in known]
        self._write_differences(run, target, points)
        folder = MODEL_FOLDER if record.kind == "classifiers" else None
        names = (GRID_FILE,) if folder is None else (str(record.meta["weights"]),)
        for name in (META_FILE, *names):
            self._server.log_file(run.run_id, record.directory / name, folder)
        self._server.write(run.run_id, tags={records.META_SHA256: record.meta_sha256})
        self._finish(run)

    def _finish(self, run: RunState) -> bool:
        if run.status == "FINISHED":
            return False
        self._server.set_status(run.run_id, "FINISHED")
        return True

    def _write_differences(
        self, run: RunState, target: _Content, curves: Sequence[records.Point] = ()
    ) -> bool:
        """Write what the run does not say yet; parameters are only added, MLflow keeps them."""
        names = _differ(target.metrics, run.metrics)
        points = [*curves, *((name, target.metrics[name], target.step) for name in names)]
        params = {name: target.params[name] for name in target.params if name not in run.params}
        tags = {name: target.tags[name] for name in _differ(target.tags, run.tags)}
        self._server.write(run.run_id, points, params, tags)
        return bool(points or params or tags)

    def _describe_commit(self) -> dict[str, str]:
        if self._commit is None:
            self._commit = records.describe_commit(self._root)
        return self._commit


def _differ(desired: Mapping[str, object], found: Mapping[str, object]) -> list[str]:
    return [name for name in sorted(desired) if found.get(name) != desired[name]]
