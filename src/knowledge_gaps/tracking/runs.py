"""How the runs of a study are found, told apart and made; both `sync` and `live` go by it.

A study is one parent run; every trained instance is a child of it. A finished child carries the
sha256 of its meta.json, a live one the identity of its training and a sign of life.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence

from knowledge_gaps.tracking import records
from knowledge_gaps.tracking.records import InstanceRecord
from knowledge_gaps.tracking.server import RunState, TrackingServer

IDENTITY = "kgaps.identity"
PROCESS = "kgaps.process"  # HOST/PID of the training that writes a live run
ALIVE_AT = "kgaps.alive_at"  # seconds since the epoch, renewed while the training goes on
SAME_AS = "kgaps.same_result_as"  # id of the run that shows the bytes this training ended with
ALIVE_SEC = 600  # without a sign of life for so long, a training on another host is gone


def find_parent(server: TrackingServer, study: str, runs: Sequence[RunState]) -> RunState:
    """Find the parent run of a study among its runs, or create it; the caller holds the lock."""
    parents = [run for run in runs if run.tags.get(records.ROLE) == "study"]
    if parents:
        return parents[-1]  # the oldest, should two hosts have made one each
    parent = server.create_run(study, {records.STUDY: study, records.ROLE: "study"})
    server.set_status(parent.run_id, "FINISHED")  # it only holds the others together
    return parent


def create_child(
    server: TrackingServer, parent: RunState, key: tuple[str, str, int], tags: Mapping[str, str]
) -> RunState:
    """Create the run of an instance under the parent run of its study.

    Args:
        server: the connection; the caller holds its lock.
        parent: the study's run.
        key: kind, cohort and instance.
        tags: more tags than those that name study and instance.
    """
    kind, cohort, instance = key
    own = {
        records.STUDY: parent.tags[records.STUDY],
        records.ROLE: "instance",
        records.KIND: kind,
        records.COHORT: cohort,
        records.INSTANCE: str(instance),
        "mlflow.parentRunId": parent.run_id,
    }
    return server.create_run(f"{kind}/{cohort}/{instance}", own | dict(tags))


def get_key(run: RunState) -> tuple[str, str, int]:
    """Tell kind, cohort and instance of a child run."""
    kind, cohort = run.tags.get(records.KIND, ""), run.tags.get(records.COHORT, "")
    return kind, cohort, int(run.tags.get(records.INSTANCE, -1))


def sign_life() -> dict[str, str]:
    """Make the tags by which others know that this process trains what a live run shows."""
    return {PROCESS: _name_process(), ALIVE_AT: str(int(time.time()))}


def is_own(run: RunState) -> bool:
    """Tell whether it was this process that trained what a live run shows."""
    return run.tags.get(PROCESS) == _name_process()


def is_complete(run: RunState) -> bool:
    """Tell whether a run says all of its training, itself or by naming the run that does."""
    return records.META_SHA256 in run.tags or SAME_AS in run.tags


def is_alive(run: RunState) -> bool:
    """Tell whether another process still trains what a live run shows."""
    host, _, pid = run.tags.get(PROCESS, "").rpartition("/")
    is_here = host == socket.gethostname()
    if not pid or (is_here and int(pid) == os.getpid()):
        return False
    if time.time() - float(run.tags.get(ALIVE_AT, "0")) > ALIVE_SEC:
        return False
    return not is_here or _is_running(int(pid))


def _name_process() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there, but of another user
        return True
    return True


def is_training_of(run: RunState, record: InstanceRecord) -> bool:
    """Tell whether an unfinished run shows the training that ended in this record.

    Everything that the run says of its settings and inputs must be true of the record.
    """
    params = records.collect_params(record.meta)
    inputs = records.collect_inputs(record.meta)
    shown = {
        name: _drop_version(run.tags[name])
        for name in run.tags
        if name == records.DATA_SHA256 or name.startswith(records.POOL)
    }
    return (
        not is_complete(run)
        and get_key(run) == record.key
        and all(params.get(name) == run.params[name] for name in run.params)
        and all(inputs.get(name) == shown[name] for name in shown)
    )


def _drop_version(tag: str) -> str:
    return tag.partition(" registry=")[0]
