"""Bring MLflow to what the files say; what it says already is not written again.

A study is a parent run, a trained instance a child of it, and a classifier a version of the model
kgaps.STUDY.COHORT, known by its weights' sha256; the alias instance-CHAIN-K is the current one.
A child is whole once it has the tag kgaps.meta_sha256; others are of a training that goes on or was
interrupted, and are deleted when the cohort's files are synced.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.study import PARAMS_FILE, Kind, Study
from knowledge_gaps.study.graph import get_cohorts
from knowledge_gaps.tracking.server import describe_failure, open_experiment, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

Point = tuple[str, float, int]  # metric, value, step
Measurements = Mapping[str, Mapping[str, float]]  # metrics by "KIND/COHORT/CHAIN/K"

_META = "kgaps.meta_sha256"
_CURRENT = "kgaps.current"  # "false" once the files hold another training
_MODEL = "model"  # the artifacts of a classifier's run that are its version
_META_PARAMS = ("architecture", "seed", "steps", "images_seen", "settings")
_SIDES = {"gans": ("generator", "classifier"), "classifiers": ("classifier", "generator")}


def sync(root: Path, study: Study) -> None:
    """Create what MLflow lacks and print what was done; raises as `sync_study`."""
    cohorts = [(kind.value, name) for kind in Kind for name in get_cohorts(study, kind)]
    done = sync_study(root, study.study.name, cohorts)
    print(
        f"MLflow: {', '.join(f'{count} {what}' for what, count in done.items()) or 'no cohort yet'}"
    )


def sync_experiment(root: Path, study: Study) -> None:
    """Do the same in an experiment of DVC, whose folder is removed after its last stage."""
    if layout.get_home(root) != root:
        try:
            sync(root, study)
        except UserError as error:
            print(error, file=sys.stderr)


def sync_study(root: Path, study: str, cohorts: Collection[tuple[str, str]]) -> Counter[str]:
    """Bring MLflow to what the files of a study say; raises UserError when it is off or fails.

    The cohorts are (kind, name) each; those that are not trained yet are left out. Returns counts
    of what was "runs created", "runs updated", "versions unchanged" and so on.
    """
    uri = tracking_uri(root)
    if uri is None:
        raise UserError("KGAPS_TRACKING is 'off': unset it to sync, or set 'on'")
    try:
        measured = _read_measurements(layout.get_reports(root, study))
        with open_experiment(root, uri) as (client, experiment):
            runs = StudyRuns(root, client, experiment, study)
            for kind, cohort in cohorts:
                runs.sync_cohort(kind, cohort, measured)
            runs.sync_parent()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"tracking: {describe_failure(uri, error)}") from error
    return runs.counts


class StudyRuns:
    """The runs and registered classifiers of a study; its parent run exists after this."""

    def __init__(self, root: Path, client: MlflowClient, experiment: str, study: str) -> None:
        self._root, self.client, self._experiment, self._study = root, client, experiment, study
        self.counts = Counter[str]()
        query = f"tags.`kgaps.study` = '{study}'"
        runs = client.search_runs([experiment], query, max_results=50_000)
        self._children = [run for run in runs if run.data.tags["kgaps.role"] == "instance"]
        parents = [run for run in runs if run.data.tags["kgaps.role"] == "study"]
        self._parent = parents[-1] if parents else self._create(study, {"kgaps.role": "study"})

    def _create(self, name: str, tags: Mapping[str, str]) -> Run:
        tags = {"kgaps.study": self._study, **tags}
        return self.client.create_run(self._experiment, tags=tags, run_name=name)

    def begin(self, name: str, meta: Mapping[str, Any]) -> Run:
        """Create the run "KIND/COHORT/CHAIN/K" of a training that meta.json tells of, or will."""
        from mlflow.entities import Param
        from mlflow.utils.git_utils import get_git_commit

        keys = ("kgaps.kind", "kgaps.cohort", "kgaps.chain", "kgaps.instance")
        tags = dict(zip(keys, name.split("/"), strict=True))
        tags |= {"mlflow.parentRunId": self._parent.info.run_id, "kgaps.role": "instance"}
        tags |= {"kgaps.git_commit": get_git_commit(str(self._root)) or "none"}
        tags["kgaps.data_sha256"] = str(meta["lineage"]["data"]["sha256"])
        for index, member in enumerate(meta["lineage"]["pool"]):
            tags[f"kgaps.pool.{index}"] = "{cohort}/{chain}/{instance} sha256={sha256}".format(
                **member
            )
        run = self._create(name, tags)
        chosen = {name: meta[name] for name in _META_PARAMS if name in meta}
        values = _flatten(meta.get("cohort_settings", {}) | chosen, ".")
        params = [Param(n, v if isinstance(v, str) else json.dumps(v)) for n, v in values.items()]
        self.client.log_batch(run.info.run_id, params=params)
        return run

    def write(self, run: Run, points: Iterable[Point], tags: Mapping[str, str]) -> bool:
        """Write points of metrics, and tags; return whether there were any."""
        from mlflow.entities import Metric, RunTag

        now_ms = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now_ms, step) for name, value, step in points]
        labels = [RunTag(*item) for item in tags.items()]
        self.client.log_batch(run.info.run_id, metrics, (), labels)
        return bool(metrics or labels)

    def sync_cohort(self, kind: str, cohort: str, measured: Measurements) -> None:
        """Bring the runs and versions of a trained cohort to what its files and `measured` say."""
        used = set[str]()
        for instance, directory, sha256 in _read_cohort(self._root, f"{kind}/{cohort}"):
            meta = read_json(directory / layout.META_FILE)
            name = f"{kind}/{cohort}/{instance}"
            known = [run for run in self._children if run.data.tags.get(_META) == sha256]
            run = known[0] if known else self._add(name, directory, meta, sha256)
            tags, step = {_CURRENT: "true"}, int(meta["steps"])
            self._count("runs", not known, self._update(run, measured.get(name, {}), step, tags))
            used.add(run.info.run_id)
            if kind == "classifiers":
                self._sync_version(run, instance, meta)
        for run in self._children if used else ():
            if run.info.run_name.startswith(f"{kind}/{cohort}/") and run.info.run_id not in used:
                if _META in run.data.tags:
                    self._update(run, {}, 0, {_CURRENT: "false"})
                else:
                    self.client.delete_run(run.info.run_id)

    def _add(self, name: str, directory: Path, meta: Mapping[str, Any], sha256: str) -> Run:
        """Add the run of a trained instance; the tag that makes it whole comes last."""
        run, is_gan = self.begin(name, meta), name.startswith("gans/")
        for file in (layout.META_FILE, layout.GRID_FILE if is_gan else meta["weights"]):
            folder = None if is_gan else _MODEL
            self.client.log_artifact(run.info.run_id, str(directory / file), folder)
        tags = {f"kgaps.version.{key}": text for key, text in meta["versions"].items()}
        tags["kgaps.weights_sha256"] = meta["files"][meta["weights"]]
        curves = pd.read_csv(directory / layout.CURVES_FILE, index_col="step")
        cells: Any = curves.stack(future_stack=True).dropna()
        points = [(str(metric), float(v), int(step)) for (step, metric), v in cells.items()]
        self.write(run, points, tags)
        self.client.set_terminated(run.info.run_id)
        self.client.set_tag(run.info.run_id, _META, sha256)
        return run

    def _update(
        self, run: Run, metrics: Mapping[str, float], step: int, tags: Mapping[str, str]
    ) -> bool:
        """Write the metrics and tags that differ; return whether there were any."""
        points = [(n, v, step) for n, v in metrics.items() if run.data.metrics.get(n) != v]
        return self.write(run, points, dict(tags.items() - run.data.tags.items()))

    def sync_parent(self) -> None:
        """Bring the headline metrics and the study's files to the parent run."""
        reports = layout.get_reports(self._root, self._study)
        path = reports / layout.METRICS_FILE
        values = _flatten(read_json(path), "/") if path.is_file() else {}
        files = [self._root / PARAMS_FILE, reports / "index.html"]
        files = [path for path in files if path.is_file()]
        sha256 = {"kgaps.files_sha256": " ".join(map(hash_file, files))}
        if not sha256.items() <= self._parent.data.tags.items():
            for file in files:
                self.client.log_artifact(self._parent.info.run_id, str(file))
        metrics = {name: value for name, value in values.items() if isinstance(value, int | float)}
        self._update(self._parent, metrics, 0, sha256)
        if self._parent.info.status != "FINISHED":
            self.client.set_terminated(self._parent.info.run_id)

    def _sync_version(self, run: Run, instance: Instance, meta: Mapping[str, Any]) -> None:
        """Make a classifier the current version of its instance."""
        model, alias = f"kgaps.{self._study}.{meta['cohort']}", f"instance-{instance.file_name}"
        sha256 = meta["files"][meta["weights"]]
        tags = {"sha256": sha256, "cohort": meta["cohort"], "instance": str(instance)}
        models = self.client.search_registered_models(f"name='{model}'")
        registered = models[0] if models else self.client.create_registered_model(model)
        versions = self.client.search_model_versions(f"name='{model}'")
        known = [version for version in versions if tags.items() <= version.tags.items()]
        source, run_id = f"{run.info.artifact_uri}/{_MODEL}", run.info.run_id
        create = self.client.create_model_version
        version = known[0] if known else create(model, source, run_id, tags)
        is_current = str(registered.aliases.get(alias)) == str(version.version)
        if not is_current:
            self.client.set_registered_model_alias(model, alias, version.version)
        self._count("versions", not known, not is_current)

    def _count(self, what: str, is_new: bool, is_changed: bool) -> None:
        outcome = "created" if is_new else "updated" if is_changed else "unchanged"
        self.counts[f"{what} {outcome}"] += 1


def _read_cohort(root: Path, cohort: str) -> Iterator[tuple[Instance, Path, str]]:
    """List a trained cohort's instances: directory of each, and the sha256 of its meta.json."""
    directory = layout.get_cohort_directory(root, cohort)
    if (directory / layout.COHORT_FILE).is_file():
        for entry in read_json(directory / layout.COHORT_FILE)["instances"]:
            instance = Instance(entry["chain"], entry["instance"])
            path = directory / str(instance)
            if (found := hash_file(path / layout.META_FILE)) != entry["sha256"]:
                recorded = f"{layout.COHORT_FILE} recorded {entry['sha256']}"
                raise UserError(f"{path / layout.META_FILE}: sha256 is {found}, {recorded}")
            yield instance, path, found


def _flatten(values: Mapping[str, Any], separator: str) -> dict[str, Any]:
    """Flatten nested mappings: {"a": {"b": 1}} becomes {"a.b": 1} with separator "."."""
    [flat] = pd.json_normalize(dict(values), sep=separator).to_dict("records") or [{}]
    return {str(name): value for name, value in flat.items()}


def _read_measurements(reports: Path) -> Measurements:
    """Read what evaluation measured, from its two tables.

    Of generators the metrics of quality.csv, of classifiers the real_accuracy; of both
    detection_rate/COHORT/GROUP and auc/COHORT/GROUP, means over the pairs with a cohort of the
    other side that are in_loss, in_training or, held_out, neither.
    """
    measured: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def average(rows: pd.DataFrame, kind: str, metrics: list[str], *by: str) -> None:
        side = _SIDES[kind][0]
        keys = [f"{side}_{name}" for name in ("cohort", "chain", "instance")]
        means: Any = rows.groupby([*keys, *by])[metrics].mean()
        cells = means.stack(future_stack=True).dropna()
        for (cohort, chain, index, *parts, name), value in cells.items():
            metric = "/".join(map(str, (name, *parts)))
            measured[f"{kind}/{cohort}/{chain}/{index}"][metric] = float(value)

    if (reports / layout.QUALITY_FILE).is_file():
        quality = pd.read_csv(reports / layout.QUALITY_FILE)
        numbers = quality.select_dtypes("number").columns.drop(
            ["generator_chain", "generator_instance", "phi"]
        )
        average(quality, "gans", list(numbers))
    if (reports / layout.DETECTIONS_FILE).is_file():
        pairs = pd.read_csv(reports / layout.DETECTIONS_FILE)
        groups = ["in_loss", "in_training"]
        pairs["group"] = np.select([pairs[name] for name in groups], groups, "held_out")
        for kind, (_, other) in _SIDES.items():
            average(pairs, kind, ["detection_rate", "auc"], f"{other}_cohort", "group")
        average(pairs, "classifiers", ["real_accuracy"])
    return measured
