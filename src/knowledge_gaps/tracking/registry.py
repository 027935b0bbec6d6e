"""The registry of classifiers: a model for each cohort, a version for each trained instance.

A version is recognised by the sha256 of its weights, so registering again changes nothing, and
an alias instance-K points at the version of the current instance K. An alias never decides an
input: a later cohort reads files whose sha256 was recorded, and MLflow is told the version.
A model is named kgaps.STUDY.COHORT: no name holds a dot, so no two cohorts share a model.
"""

from __future__ import annotations

from collections.abc import Mapping

from knowledge_gaps.tracking import records
from knowledge_gaps.tracking.records import InstanceRecord
from knowledge_gaps.tracking.server import RunState, TrackingServer, VersionState

MODEL_FOLDER = "model"  # the artifacts of a classifier's run that are its version


class Registry:
    """The registered classifiers of a study, read once.

    Attributes:
        created: versions that were created so far.
        updated: versions whose tags or alias were changed so far.
        unchanged: versions that were complete.
    """

    def __init__(self, server: TrackingServer, study: str) -> None:
        self._server = server
        self._prefix = f"kgaps.{study}."
        self._aliases = server.find_models(self._prefix)
        found = server.find_versions(self._prefix) if self._aliases else []
        self._versions = {_get_key(version): version for version in found}
        self.created = self.updated = self.unchanged = 0

    def sync_version(
        self, record: InstanceRecord, run: RunState, summary: Mapping[str, float]
    ) -> None:
        """Make a classifier the current version of its instance.

        Args:
            record: the trained classifier.
            run: its finished run, whose artifacts are the version.
            summary: what evaluation measured, kept as tags.
        """
        model = self._prefix + record.cohort
        tags = {
            "sha256": record.weights_sha256,
            "cohort": record.cohort,
            "instance": str(record.instance),
            **{name: f"{summary[name]:.6g}" for name in summary},
        }
        if model not in self._aliases:
            self._server.create_model(model)
            self._aliases[model] = {}
        version = self._versions.get((model, tags["instance"], tags["sha256"]))
        if version is None:
            version = self._server.create_version(model, run, MODEL_FOLDER, tags)
            self._versions[_get_key(version)] = version
            self._set_alias(version)
            self.created += 1
        elif self._set_tags(version, tags) | self._set_alias(version):
            self.updated += 1
        else:
            self.unchanged += 1

    def name_versions(self, record: InstanceRecord) -> dict[str, str]:
        """Name the pool members of an instance, with the versions that the registry knows."""
        tags = {}
        for index, member in enumerate(record.meta["lineage"].get("pool", [])):
            name = f"{records.POOL}.{index}"
            tags[name] = records.collect_inputs(record.meta)[name]
            kind, _, cohort = str(member["cohort"]).partition("/")
            key = self._prefix + cohort, str(member["instance"]), str(member["sha256"])
            if kind == "classifiers" and key in self._versions:
                version = self._versions[key]
                tags[name] += f" registry={version.model}/{version.version}"
        return tags

    def _set_tags(self, version: VersionState, tags: Mapping[str, str]) -> bool:
        new = {name: tags[name] for name in tags if version.tags.get(name) != tags[name]}
        self._server.tag_version(version, new)
        return bool(new)

    def _set_alias(self, version: VersionState) -> bool:
        alias = f"instance-{version.tags['instance']}"
        if self._aliases[version.model].get(alias) == version.version:
            return False
        self._server.set_alias(version, alias)
        self._aliases[version.model][alias] = version.version
        return True


def _get_key(version: VersionState) -> tuple[str, str, str]:
    return version.model, version.tags.get("instance", ""), version.tags.get("sha256", "")
