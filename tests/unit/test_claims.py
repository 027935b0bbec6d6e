"""Claims: one process at a time, freed by its death, and what a rank sees of the others."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.training.claims import Roll, TakenError, claim, is_free, look_anew

HOLD = """
import sys
from pathlib import Path
from knowledge_gaps.training.claims import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
# adds 1 to a number in a file, without an atomic way to do so
COUNT = """
import sys, time
from pathlib import Path
from knowledge_gaps.training.claims import TakenError, claim, is_free
lock, number = Path(sys.argv[1]), Path(sys.argv[2])
done = 0
while done < 20:
    if not is_free(lock):
        continue
    try:
        with claim(lock, wait_sec=0):
            found = int(number.read_text())
            time.sleep(0.001)
            number.write_text(str(found + 1))
        done += 1
    except TakenError:
        pass
"""


@contextmanager
def hold_elsewhere(lock_file: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold a claim until it is killed."""
    command = [sys.executable, "-c", HOLD, str(lock_file)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_claim_is_of_one_process_until_it_dies(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "instance-0.lock"
    assert is_free(lock)
    with hold_elsewhere(lock) as process:
        assert not is_free(lock)
        words = r"another process is at work at it .*instance-0"
        with pytest.raises(TakenError, match=words), claim(lock, wait_sec=0.01):
            pytest.fail("claimed twice")
        process.kill()
        process.wait()
        assert is_free(lock)
        with claim(lock, wait_sec=0):
            pass
    assert lock.exists()  # a lock file that goes would let two processes hold two of one name


def test_claim_is_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with hold_elsewhere(lock) as process:
        assert process.stdin is not None
        process.stdin.close()  # it ends by itself, soon
        with claim(lock, wait_sec=30):
            assert process.wait(30) == 0


def test_claim_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), claim(tmp_path / "lock"):
        raise RuntimeError
    assert is_free(tmp_path / "lock")


def test_disk_without_flock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that a killed process leaves behind would keep its instance for ever."""

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match="its disk has no flock"), claim(tmp_path / "a.lock"):
        pass


def test_processes_never_hold_a_claim_together(tmp_path: Path) -> None:
    lock, number = tmp_path / "lock", tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNT, str(lock), str(number)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert number.read_text() == "80"  # every addition saw the one before


def test_look_leaves_nothing_and_needs_a_directory(tmp_path: Path) -> None:
    look_anew(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        look_anew(tmp_path / "none")


def test_roll_knows_who_is_there_and_what_they_train(tmp_path: Path) -> None:
    ours, theirs = Roll(tmp_path, "a" * 64), Roll(tmp_path, "b" * 64)
    assert ours.list_present() == []
    with hold_elsewhere(tmp_path / f"rank-1-{'b' * 16}.lock") as process:
        with ours.join(0), pytest.raises(TakenError), Roll(tmp_path, "b" * 64).join(1):
            pytest.fail("two ranks of one index")
        [present] = ours.list_present()
        assert present.name == f"rank-1-{'b' * 16}.lock"
        assert ours.select_others([present]) == [present]
        assert theirs.select_others([present]) == []
        with hold_elsewhere(tmp_path / f"rank-2-{'b' * 16}.lock"):
            start = time.monotonic()
            assert len(ours.list_present(wait_sec=3.0)) == 2
            assert time.monotonic() - start < 5.0  # the time is for both together
        process.kill()
        process.wait()
    assert ours.list_present() == []
    assert list(tmp_path.iterdir()) == []  # the files of ranks that have left are cleared away
