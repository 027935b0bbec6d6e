"""Instances spread over ranks: who trains what may change at any time, the bytes may not.

`cohort_root` is trained by the usual path, undisturbed; every test ends with the same bytes.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from host_tools import end_all, find_missing, join_hosts, start_torchrun
from knowledge_gaps.runtime.checkpoint import read_metadata, read_tensors
from knowledge_gaps.runtime.devices import Rank
from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.study import Kind, load_study
from knowledge_gaps.training import cohort as cohort_module
from knowledge_gaps.training.cohort import CohortStates, train_cohort
from knowledge_gaps.training.spread_cohort import train_cohort_spread
from knowledge_gaps.training.state import write_state
from knowledge_gaps.training.task import TrainingTask, make_tasks
from study_tools import change_params, copy_root, hash_tree, run_stage

BASELINE = Path("models") / "gans" / "baseline"
STATES = Path(".kgaps") / "resume" / "gans-baseline"
NUM_INSTANCES = 5
STEPS = 96  # long enough to be killed in the middle
TIMEOUT_SEC = 300
FIRST, SECOND = Rank(0, 0, 2), Rank(1, 1, 2)


@pytest.fixture(scope="module")
def cohort_root(trained_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study whose baseline was trained by the workers of one process."""
    root = copy_root(trained_root, tmp_path_factory.mktemp("cohort") / "study", str(BASELINE))
    steps = {"gan_recipes.dcgan.steps": STEPS, "gan_recipes.dcgan.log_every": 16}
    change_params(root, {"gans.baseline.instances": NUM_INSTANCES, **steps})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGAPS_TRACKING", "off")
        patch.setenv("KGAPS_WORKERS", "2")
        run_stage(root, "gans", "baseline")
    return root


@pytest.fixture
def root(cohort_root: Path, tmp_path: Path) -> Path:
    """Return a copy of the study in which the baseline is not trained."""
    return copy_root(cohort_root, tmp_path / "study", str(BASELINE))


def make_baseline(root: Path) -> list[TrainingTask]:
    return make_tasks(root, load_study(root / "params.yaml"), Kind.GANS, "baseline")


class Note:
    """A listener that keeps what it was told, and lets something happen at an instance's start."""

    def __init__(self, actions: dict[int, Callable[[], object]] | None = None) -> None:
        self.trained: list[int] = []
        self.steps: list[tuple[int, int]] = []
        self._actions = dict(actions or {})

    def report(self, instance: int, step: int, row: dict[str, float] | None) -> None:
        self.steps.append((instance, step))
        if 0 < step < STEPS and instance not in self.trained:
            self.trained.append(instance)
            self._actions.pop(instance, lambda: None)()


def read_steps(root: Path) -> dict[int, int]:
    """Read at which step the state of each instance was saved."""
    return {
        int(path.parent.name.partition("-")[0]): json.loads(read_metadata(path)["counters"])["step"]
        for path in sorted((root / STATES).glob("*/state.safetensors"))
    }


def wait_until(is_true: Callable[[], object], *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_SEC
    while not is_true():
        for process in processes:
            assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def list_ranks(torchrun: subprocess.Popen[str]) -> list[psutil.Process]:
    """List the ranks that are children of a torchrun and alive, in order."""
    ranks = {}
    for child in psutil.Process(torchrun.pid).children():
        with suppress(psutil.Error):  # it has just ended
            if (index := child.environ().get("RANK")) is not None:
                ranks[int(index)] = child
    return [ranks[index] for index in sorted(ranks)]


def list_trainers(rank: psutil.Process) -> list[psutil.Process]:
    """List the processes that train, which are forked from the server of a rank."""
    return [trainer for server in rank.children() for trainer in server.children()]


def finish(*torchruns: subprocess.Popen[str]) -> str:
    outs = [process.communicate(timeout=TIMEOUT_SEC)[0] for process in torchruns]
    assert [process.returncode for process in torchruns] == [0] * len(torchruns), "\n".join(outs)
    return "\n".join(outs)


# ------------------------------------------------------------------------- ranks that are killed


def test_killed_processes_of_four_ranks(cohort_root: Path, root: Path) -> None:
    """First a process that trains is killed, which no other one notices; then a rank."""
    torchrun = start_torchrun(root, 4, "gans", "baseline", max_restarts=2)
    try:
        wait_until(lambda: len(read_steps(root)) == 4, torchrun)
        ranks = list_ranks(torchrun)
        [trainer] = list_trainers(ranks[1])
        others = [child.pid for rank in (ranks[0], *ranks[2:]) for child in list_trainers(rank)]
        trainer.kill()
        wait_until(lambda: [t for t in list_trainers(ranks[1]) if t != trainer], torchrun)
        assert [rank.pid for rank in list_ranks(torchrun)] == [rank.pid for rank in ranks]
        now = [child.pid for rank in (ranks[0], *ranks[2:]) for child in list_trainers(rank)]
        assert now == others
        ranks[2].kill()
        wait_until(lambda: ranks[2].pid not in [rank.pid for rank in list_ranks(torchrun)])
        steps = read_steps(root)
        assert 0 < steps[2] < STEPS
        out = finish(torchrun)
    finally:
        end_all(torchrun)
    assert "gans/baseline/1: its process ended by itself (exit code -9" in out
    assert hash_tree(root / BASELINE) == hash_tree(cohort_root / BASELINE)
    assert not (root / STATES).exists()


def test_killed_rank_on_one_of_two_hosts(cohort_root: Path, root: Path) -> None:
    missing = find_missing()
    if missing is not None:
        pytest.skip(missing)
    with join_hosts() as hosts:
        torchruns = [
            start_torchrun(root, 2, "gans", "baseline", hosts=hosts, host=index, max_restarts=2)
            for index in range(2)
        ]
        try:
            wait_until(lambda: len(read_steps(root)) == 4, *torchruns)
            undisturbed, [killed, neighbour] = list_ranks(torchruns[0]), list_ranks(torchruns[1])
            killed.kill()
            wait_until(lambda: not neighbour.is_running(), *torchruns)
            # the other host's ranks go on; those of this one begin anew
            assert list_ranks(torchruns[0]) == undisturbed
            finish(*torchruns)
        finally:
            end_all(*torchruns)
    assert hash_tree(root / BASELINE) == hash_tree(cohort_root / BASELINE)


def test_two_hosts_train_one_instance_as_two_ranks_of_one_do(root: Path, tmp_path: Path) -> None:
    missing = find_missing()
    if missing is not None:
        pytest.skip(missing)
    change_params(root, {"gans.baseline.instances": 1, "gan_recipes.dcgan.steps": 48})
    on_one = copy_root(root, tmp_path / "one")
    alone = start_torchrun(on_one, 2, "gans", "baseline")
    try:
        finish(alone)
    finally:
        end_all(alone)
    with join_hosts() as hosts:
        torchruns = [
            start_torchrun(root, 1, "gans", "baseline", hosts=hosts, host=index)
            for index in range(2)
        ]
        try:
            finish(*torchruns)
        finally:
            end_all(*torchruns)
    assert hash_tree(root / BASELINE) == hash_tree(on_one / BASELINE)
    train_cohort(make_baseline(copy := copy_root(root, tmp_path / "copy", str(BASELINE))), [])
    name = "0/generator.safetensors"  # batch statistics of half a batch: ranks did share it
    assert (copy / BASELINE / name).read_bytes() != (root / BASELINE / name).read_bytes()


# ----------------------------------------------------------------------------------- whose turn


@contextmanager
def hold_elsewhere(lock_file: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    """Let another process hold a claim, as if it trained the instance, until it is killed."""
    context = multiprocessing.get_context("forkserver")
    near, far = context.Pipe()
    process = context.Process(target=_hold, args=(lock_file, far), daemon=True)
    process.start()
    assert near.recv() == "held"
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _hold(lock_file: Path, connection: multiprocessing.connection.Connection) -> None:
    from knowledge_gaps.training.claims import claim

    with claim(lock_file):
        connection.send("held")
        signal.pause()


def test_rank_takes_over_what_another_one_leaves(cohort_root: Path, root: Path) -> None:
    """Of rank 1's share, a slow process has instance 1; when it dies, that is taken over too."""
    tasks = make_baseline(root)
    slow = CohortStates.of(tasks).assignments[1].claim_file
    with hold_elsewhere(slow) as process:
        note = Note({3: process.kill})
        train_cohort_spread(FIRST, tasks, [note])
    # its own share, then what is free of the other's; 1 became free while 3 was trained
    assert note.trained == [0, 2, 4, 3, 1]
    assert note.steps[-NUM_INSTANCES:] == [(index, STEPS) for index in range(NUM_INSTANCES)]
    assert hash_tree(root / BASELINE) == hash_tree(cohort_root / BASELINE)
    assert not (root / STATES).exists()


def test_stopped_rank_saves_and_another_one_resumes(cohort_root: Path, root: Path) -> None:
    tasks = make_baseline(root)
    with pytest.raises(StoppedError, match="gans/baseline: state saved, the same command resumes"):
        train_cohort_spread(
            SECOND, tasks, [Note({1: lambda: os.kill(os.getpid(), signal.SIGTERM)})]
        )
    [(instance, step)] = read_steps(root).items()
    assert instance == 1
    note = Note()
    train_cohort_spread(FIRST, tasks, [note])
    assert next(at for which, at in note.steps if which == 1) == step
    assert hash_tree(root / BASELINE) == hash_tree(cohort_root / BASELINE)


def test_rank_that_comes_when_all_is_done(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(root, {"gans.baseline.instances": 1})
    tasks = make_baseline(root)
    train_cohort_spread(FIRST, tasks, [])
    made = (root / BASELINE / "cohort.json").stat()
    late = Note()
    train_cohort_spread(SECOND, tasks, [late])
    assert late.trained == []
    assert (root / BASELINE / "cohort.json").stat() == made
    (root / BASELINE / "cohort.json").write_text("{}\n")  # no longer what the ranks made
    train_cohort_spread(SECOND, tasks, [late])
    assert late.trained == [0]


def test_instance_that_was_finished_meanwhile_is_not_trained_again(
    cohort_root: Path, root: Path
) -> None:
    """Another rank has published since this one looked: its states have gone."""
    tasks = make_baseline(root)
    entry = CohortStates.of(tasks, wait_sec=0.1).assignments[0]
    with pytest.raises(UserError, match="another process has finished the cohort"), entry.claim():
        pytest.fail("claimed")
    assert not (root / STATES).exists()


# -------------------------------------------------------------------------------------- failures


def poison(root: Path, tasks: list[TrainingTask]) -> None:
    """Save a state of instance 0 of which nothing finite follows."""
    with pytest.raises(StoppedError):
        train_cohort_spread(FIRST, tasks, [Note({0: lambda: os.kill(os.getpid(), signal.SIGTERM)})])
    [state] = (root / STATES).glob("0-*/state.safetensors")
    tensors = read_tensors(state)
    tensors["module/generator/project.weight"][0, 0] = math.inf
    write_state(state, tensors, read_metadata(state)["counters"])


def test_failure_is_told_by_every_rank(
    root: Path, cohort_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_params(root, {"gans.baseline.instances": 2})
    tasks = make_baseline(root)
    poison(root, tasks)
    words = r"^gans/baseline/0: loss_\w+ is nan before step \d+: the training diverged"
    first, second = Note(), Note()
    with pytest.raises(UserError, match=words) as told:
        train_cohort_spread(FIRST, tasks, [first])
    assert first.trained == [0, 1]  # the other one was trained to its end
    [result] = (root / STATES).glob("1-*/result")
    assert hash_tree(result) == hash_tree(cohort_root / BASELINE / "1")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(UserError) as again:
        train_cohort_spread(SECOND, tasks, [second])
    assert str(again.value) == str(told.value)
    assert second.trained == []
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")  # the user's next command tries it again
    with pytest.raises(UserError, match=words):
        train_cohort_spread(SECOND, tasks, [second])
    assert second.trained == [0]
    assert not (root / BASELINE).exists()


def test_ranks_and_a_single_process_keep_off_each_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_module, "_LOCK_SEC", 0.05)
    states = CohortStates.of(make_baseline(root))
    words = r"^gans/baseline: another process is training this cohort"
    with states.hold(), pytest.raises(UserError, match=words):
        train_cohort_spread(FIRST, make_baseline(root), [])
    with states.join(0, is_restart=False), pytest.raises(UserError, match=words):
        train_cohort(make_baseline(root), [])
    assert not (root / BASELINE).exists()


def test_ranks_of_other_parameters_are_refused(root: Path) -> None:
    states = CohortStates.of(make_baseline(root))
    change_params(root, {"gan_recipes.dcgan.steps": STEPS + 1})
    words = "this host has other code, data, params.yaml or pool than a rank"
    with states.join(0, is_restart=False), pytest.raises(UserError, match=words):
        train_cohort_spread(SECOND, make_baseline(root), [])
    assert len(list((root / STATES).iterdir())) == NUM_INSTANCES  # and its states are let be
