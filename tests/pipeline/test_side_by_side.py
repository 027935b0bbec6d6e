"""`kgaps repro` against `dvc repro`, on the real DAG with stages of milliseconds: same files."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clone_tools import TIMEOUT_SEC, Clone, finish, list_stages_run
from stand_in_tools import get_play, make_play_clone, read_notes, run_above
from study_tools import SMOKE_FILE, change_params

WORKERS = 2
NUM_STAGES = 15
WAIT_SEC = 120.0
# what DVC writes in the order in which stages end
ORDERED = (
    "dvc.lock",
    "models/.gitignore",
    "data/.gitignore",
    "models/classifiers/.gitignore",
    "models/gans/.gitignore",
    "models/pools/.gitignore",
)


def make_clone(root: Path) -> Clone:
    clone = make_play_clone(root / "clone", SMOKE_FILE, KGAPS_WORKERS=str(WORKERS))
    for name in ORDERED:  # so that it is this run that decides the order
        (clone.root / name).unlink(missing_ok=True)
    return clone


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    clone = make_clone(tmp_path_factory.mktemp("serial"))
    assert len(list_stages_run(clone.run("dvc", "repro"))) == NUM_STAGES
    return clone


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Return a clone in which `kgaps repro` was killed in the middle, and run again."""
    clone = make_clone(tmp_path_factory.mktemp("killed"))
    hold = get_play(clone) / "hold-classifiers@iteration_0"
    hold.touch()
    process = clone.start(*run_above("repro"))
    wait_until(lambda: "start classifiers@iteration_0" in list_events(clone))
    process.kill()
    process.communicate()
    # the stage was told, though nobody was there any more to tell it
    wait_until(lambda: "interrupt classifiers@iteration_0" in list_events(clone))
    hold.unlink()
    # two tables that do not stand on one another: each waits until the other one has begun, and
    # the first of a serial run until the second is recorded
    first, second = (get_play(clone) / f"hold-{name}" for name in ("detections", "quality"))
    first.touch()
    second.touch()
    process = clone.start(*run_above("repro"))
    wait_until(lambda: {"start detections", "start quality"} <= set(list_events(clone)))
    second.unlink()
    wait_until(lambda: "\n  quality:\n" in read_recorded(clone))
    first.unlink()
    assert f"{NUM_STAGES - 4} stages done." in finish(process)
    return clone


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SEC
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.1)


def read_recorded(clone: Clone) -> str:
    lock = clone.root / "dvc.lock"
    return lock.read_text(encoding="utf-8") if lock.exists() else ""


def list_events(clone: Clone) -> list[str]:
    return [f"{note.event} {note.stage}" for note in read_notes(clone)]


def run_and_end(clone: Clone, process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=TIMEOUT_SEC)
    return process.returncode, out


def test_killed_in_the_middle_ends_in_the_files_of_a_serial_run(
    serial: Clone, killed: Clone
) -> None:
    assert b"gans@fool_all_1" in (serial.root / "dvc.lock").read_bytes()
    for name in ORDERED:
        assert (killed.root / name).read_bytes() == (serial.root / name).read_bytes(), name


def test_afterwards_everything_is_up_to_date(killed: Clone) -> None:
    assert list_stages_run(killed.run("dvc", "repro")) == []
    before = list_events(killed)
    assert "up to date" in killed.run(*run_above("repro"))
    assert list_events(killed) == before


def test_stages_ran_at_the_same_time_in_the_room_that_there_is(killed: Clone) -> None:
    running: dict[str, int] = {}
    most_stages = most_workers = 0
    for note in read_notes(killed):
        if note.event == "start":
            running[note.stage] = note.workers
        else:
            running.pop(note.stage, None)
        most_stages = max(most_stages, len(running))
        most_workers = max(most_workers, sum(running.values()))
    assert most_stages == WORKERS
    assert most_workers == WORKERS
    finished = [note.stage for note in read_notes(killed) if note.event == "end"]
    assert len(finished) == len(set(finished)) == NUM_STAGES


def test_failure_then_interrupt_then_the_rest(killed: Clone) -> None:
    """What failed leaves the independent cohort alone; what is interrupted goes on afterwards."""
    other = {"recipe": "dcgan", "instances": 1, "fools": "none", "phi": 0.0}
    change_params(killed.root, {"gans.fool_all_1.phi": 0.5, "gans.other": other})
    failing = get_play(killed) / "fail-gans@fool_all_1"
    failing.touch()
    code, out = run_and_end(killed, killed.start(*run_above("repro")))
    assert code == 2
    assert "kgaps: 1 stage failed" in out
    assert "\ngans@fool_all_1: gans@fool_all_1: asked to fail\n" in out
    assert "end gans@other" in list_events(killed)
    # their code is noted in one output, of which each cohort has a part: no other one is due
    assert "kgaps: 1 stage failed, 1 done" in out

    failing.rename(failing.with_name("hold-gans@fool_all_1"))
    num_events = len(list_events(killed))
    process = killed.start(*run_above("repro"))
    wait_until(lambda: "start gans@fool_all_1" in list_events(killed)[num_events:])
    process.send_signal(signal.SIGTERM)
    code, out = run_and_end(killed, process)
    assert code == 130
    assert list_events(killed)[num_events:] == [
        "start gans@fool_all_1",
        "interrupt gans@fool_all_1",
    ]

    failing.with_name("hold-gans@fool_all_1").unlink()
    killed.run(*run_above("repro"))
    assert list_stages_run(killed.run("dvc", "repro")) == []
