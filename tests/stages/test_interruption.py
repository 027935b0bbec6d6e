"""Trainings that are interrupted, killed, started twice or one by one end in the same bytes."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from interruption_tools import (
    LOCKS,
    STATES,
    TIMEOUT_SEC,
    finish,
    has_states,
    read_saved_steps,
    wait_for,
)
from knowledge_gaps.core.checkpoint import read_metadata, read_tensors
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.execution import assignment
from knowledge_gaps.execution.assignment import Callback
from knowledge_gaps.execution.cohort import make_tasks, train_cohort
from knowledge_gaps.stages import cohort
from knowledge_gaps.study import Kind, load_study
from knowledge_gaps.training.state import write_state
from study_tools import (
    change_params,
    copy_root,
    hash_tree,
    make_smoke_root,
    run_stage,
    start_fork_server,
    start_kgaps,
)

BASELINE = Path("models") / "gans" / "baseline"
STOPPED = "kgaps: interrupted: gans/baseline: state saved, the same command resumes\n"
LONG_STEPS, EARLY = 600, 10  # long enough to be interrupted in the middle, and when that is


@pytest.fixture(autouse=True)
def _one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")


@pytest.fixture(scope="module")
def long_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study whose baseline takes a while, trained without interruption."""
    root = make_smoke_root(tmp_path_factory.mktemp("long") / "study")
    change_params(root, {"gan_recipes.dcgan.steps": LONG_STEPS, "gan_recipes.dcgan.log_every": 10})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGAPS_TRACKING", "off")
        patch.setenv("KGAPS_WORKERS", "2")
        start_fork_server()
        run_stage(root, "check")
        run_stage(root, "prepare")
        train_baseline(root)
    return root


@pytest.fixture
def expected(long_root: Path) -> dict[str, str]:
    return hash_tree(long_root / BASELINE)


@pytest.fixture
def root(long_root: Path, tmp_path: Path) -> Path:
    """Return a copy of `long_root` in which the baseline is not trained."""
    return copy_root(long_root, tmp_path / "long", str(BASELINE))


def train_baseline(root: Path) -> dict[str, str]:
    """Train the baseline in this process's workers; return the hashes of its files."""
    run_stage(root, "gans", "baseline")
    return hash_tree(root / BASELINE)


def train(root: Path, callback: Callback) -> None:
    """Train the baseline and call back with every progress."""
    study = load_study(root / "params.yaml")
    train_cohort(make_tasks(root, study, Kind.GANS, "baseline"), callback)


def train_and_note(root: Path, act: Callable[[], object] = int) -> list[tuple[Instance, int]]:
    """Train, and act once when an instance has made ten steps; return who reported which step."""
    noted: list[tuple[Instance, int]] = []

    def note(instance: Instance, step: int, row: object) -> None:
        is_first = max((step for _, step in noted), default=0) < EARLY <= step
        noted.append((instance, step))
        if is_first:
            act()

    train(root, note)
    return noted


def interrupt(root: Path) -> Path:
    """Train the baseline, and interrupt its first instance; return the state that was saved."""
    with pytest.raises(StoppedError):
        train_and_note(root, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert not (root / BASELINE).exists()
    [step], [state] = read_saved_steps(root), (root / STATES).glob("0-0-*/state.safetensors")
    assert EARLY <= step < LONG_STEPS
    return state


def test_interrupt_and_resume(
    root: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "2")
    process = start_kgaps(root, "gans", "baseline", start_new_session=True)
    wait_for(lambda: has_states(root, 2))
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: all processes get it
    assert finish(process, 130)[1] == STOPPED
    assert not (root / BASELINE).exists()
    steps = read_saved_steps(root)
    assert len(steps) == 2
    assert all(0 < step < LONG_STEPS for step in steps), steps
    finish(start_kgaps(root, "gans", "baseline"))
    assert hash_tree(root / BASELINE) == expected
    assert not has_states(root)


@pytest.mark.slow
def test_interrupt_while_workers_start(root: Path) -> None:
    process = start_kgaps(root, "gans", "baseline", start_new_session=True)
    wait_for((root / LOCKS / "cohort.lock").exists)  # next, the server imports torch
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process, 130)[1] == STOPPED
    assert not (root / BASELINE).exists()


def test_second_interrupt_waits_for_nobody(root: Path, expected: dict[str, str]) -> None:
    """A stopped worker (SIGSTOP) cannot save, and holds up the first Ctrl-C."""
    stopped: list[int] = []

    def stop_and_interrupt() -> None:
        [worker] = multiprocessing.active_children()
        assert worker.pid is not None
        stopped.append(worker.pid)
        os.kill(worker.pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()

    started_at = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train_and_note(root, stop_and_interrupt)
    assert stopped
    assert time.monotonic() - started_at < 120
    assert multiprocessing.active_children() == []
    assert train_baseline(root) == expected


def test_killed_worker_ends_the_command_and_names_all_instances(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "2")
    change_params(root, {"gan_recipes.dcgan.steps": 40 * LONG_STEPS})
    steps = {Instance(0, number): 0 for number in range(2)}
    killed, spawn = [], ProcessPoolExecutor._spawn_process

    def kill_one(instance: Instance, step: int, row: object) -> None:
        steps[instance] = step
        if min(steps.values()) >= EARLY and not killed:
            killed.append(max(multiprocessing.active_children(), key=lambda child: child.pid or 0))
            killed[0].kill()

    # late, so the pool's thread waits for the workers before this one alone
    late = lambda pool: (time.sleep(0.2), spawn(pool))  # noqa: E731
    monkeypatch.setattr(ProcessPoolExecutor, "_spawn_process", late)

    words = r"^gans/baseline/0/0, gans/baseline/0/1: a worker process was killed .*resumes$"
    with pytest.raises(UserError, match=words):
        train(root, kill_one)
    assert not (root / BASELINE).exists()
    assert max(read_saved_steps(root)) >= EARLY  # the other one has saved its state


def test_leftovers_of_a_killed_worker_are_no_result(root: Path, expected: dict[str, str]) -> None:
    result = interrupt(root).parent / "result"  # killed while it wrote this:
    result.mkdir()
    (result / ".generator.safetensors.1.tmp").write_bytes(b"half")
    (result / "curves.csv").write_text("step\n")
    assert train_baseline(root) == expected


@pytest.mark.slow
def test_ten_kills_at_random_moments(root: Path, expected: dict[str, str]) -> None:
    for count in range(10):
        process = start_kgaps(root, "gans", "baseline", start_new_session=True)
        time.sleep(1.0 + 0.7 * (count * 7 % 10) / 2)
        kill = os.kill if count % 2 else os.killpg  # the parent alone, or all
        kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_SEC)  # returns when the last worker has ended
        assert process.returncode == -signal.SIGKILL
        assert not (root / BASELINE).exists()
    assert train_baseline(root) == expected


def test_changed_recipe_takes_no_old_state(root: Path, tmp_path: Path) -> None:
    key = "gan_recipes.dcgan.generator_optimizer.learning_rate"
    changes = {key: 2e-3, "gan_recipes.dcgan.steps": 20, "gans.baseline.instances": 1}
    untouched = copy_root(root, tmp_path / "untouched")
    state = interrupt(root)
    for folder in (root, untouched):
        change_params(folder, changes)
    assert train_baseline(root) == train_baseline(untouched)
    assert not state.exists()


def test_diverged_instances_are_all_named_and_leave_the_others(root: Path, long_root: Path) -> None:
    state = interrupt(root)
    tensors = read_tensors(state)
    tensors["module/generator/project.weight"][0, 0] = math.inf
    write_state(state, tensors, read_metadata(state)["counters"])
    poisoned = state.read_bytes()
    words = r"^gans/baseline/0/0: loss_\w+ is nan before step \d+: .*; lower the learning rate"
    with pytest.raises(UserError, match=words):
        run_stage(root, "gans", "baseline")
    assert not (root / BASELINE).exists()
    assert state.read_bytes() == poisoned  # what was saved last stays
    [result] = (root / STATES).glob("0-1-*/result")
    assert hash_tree(result) == hash_tree(long_root / BASELINE / "0/1")
    change_params(root, {"gan_recipes.dcgan.generator_optimizer.learning_rate": 1e39})
    with pytest.raises(UserError, match=r"gans/baseline/0/0.*gans/baseline/0/1"):
        run_stage(root, "gans", "baseline")


def test_instances_one_by_one_make_the_cohort(
    root: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # the second time nothing happens
        out, _ = finish(start_kgaps(root, "gans", "baseline", "--instance", "0/1"))
        assert f"gans/baseline: steps {LONG_STEPS} of {LONG_STEPS}" in out
    assert not (root / BASELINE).exists()
    trained = {instance for instance, step in train_and_note(root) if step < LONG_STEPS}
    assert trained == {Instance(0, 0)}
    assert hash_tree(root / BASELINE) == expected
    assert not has_states(root)
    train_nothing = lambda *_: pytest.fail("something was left to train")  # noqa: E731
    monkeypatch.setattr(cohort, "find_executor", lambda: train_nothing)
    study = load_study(root / "params.yaml")
    cohort.run(root, study, "baseline", Kind.GANS, instance=Instance(0, 0))


@pytest.mark.slow
def test_instance_is_interrupted_and_started_twice(root: Path, long_root: Path) -> None:
    command = ("gans", "baseline", "--instance", "0/0")
    process = start_kgaps(root, *command)
    wait_for(lambda: has_states(root))
    process.send_signal(signal.SIGTERM)
    assert finish(process, 130)[1] == STOPPED
    for process in [start_kgaps(root, *command) for _ in range(2)]:
        _, err = process.communicate(timeout=TIMEOUT_SEC)
        assert process.returncode == 0 or "0/0: another process trains it" in err  # after LOCK_SEC
    [result] = (root / STATES).glob("0-0-*/result")
    assert hash_tree(result) == hash_tree(long_root / BASELINE / "0/0")


def test_other_processes_are_waited_for_then_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "LOCK_SEC", 0.05)
    study, locks = load_study(root / "params.yaml"), root / LOCKS
    locks.mkdir(parents=True)
    with FileLock(locks / "cohort.lock"):
        words = r"^gans/baseline: another process is training this cohort \(.* is locked\)$"
        with pytest.raises(UserError, match=words):
            run_stage(root, "gans", "baseline")
    with FileLock(locks / "0-0.lock"):
        entry = make_tasks(root, study, Kind.GANS, "baseline")[0]
        with pytest.raises(UserError, match=r"^another process trains it \(.* is locked\)$"):
            assignment.train_assignment(entry, 0, lambda: False)
    assert not (root / BASELINE).exists()
