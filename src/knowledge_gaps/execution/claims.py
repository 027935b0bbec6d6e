"""Which process works at what of a cohort, by lock files that the kernel frees when it dies.

A process claims an instance before it reads or writes anything of its training. Processes on
several hosts may do so on a disk that they share, if it passes on flock (NFS and parallel file
systems do, unless they are mounted without; a disk that refuses it is an error). What follows from
a claim is known by `knowledge_gaps.execution.worker`, and how ranks look for free instances by
`knowledge_gaps.training.spread_cohort`.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from knowledge_gaps.core.errors import UserError

CLAIM_SEC = 30.0  # how long a process that was told to stop may take to save its state


class TakenError(UserError):
    """Another process has what this one wanted to claim, or it is there no longer."""


@contextmanager
def claim(lock_file: Path, wait_sec: float = CLAIM_SEC) -> Iterator[None]:
    """Hold a lock file.

    Args:
        lock_file: stays where it is; whoever holds it is known by the kernel alone.
        wait_sec: how long to wait for another process that holds it.

    Raises:
        TakenError: when another process still holds it.
        UserError: on a disk without flock.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    # the other kind of lock is a file that stays when its process is killed
    lock = FileLock(lock_file, fallback_to_soft=False)
    try:
        lock.acquire(timeout=wait_sec)
    except Timeout as error:
        raise TakenError(f"another process is at work at it ({lock_file})") from error
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        raise UserError(
            f"{lock_file.parent}: its disk has no flock, by which processes keep off one another's "
            "trainings; mount it with locks, or work on another disk"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_free(lock_file: Path) -> bool:
    """Tell whether nobody holds a lock file at this moment."""
    try:
        with claim(lock_file, wait_sec=0):
            return True
    except TakenError:
        return False


def look_anew(directory: Path) -> None:
    """See what other hosts changed in a directory of a shared disk.

    A client of NFS remembers for up to a minute what a directory holds and lacks, unless it
    changes the directory itself.

    Raises:
        FileNotFoundError: when there is no such directory.
    """
    probe = directory / ".look"
    probe.touch()
    probe.unlink(missing_ok=True)


class Roll:
    """The ranks that are at work at one cohort: each holds a lock file named after it.

    Only who holds the cohort's own lock may join, so nobody joins while that is held.

    Args:
        folder: of the cohort's locks.
        identity: of the whole cohort's trainings; ranks of different ones do not go together.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity[:16]

    @contextmanager
    def join(self, index: int) -> Iterator[None]:
        """Be on the roll as a rank; raises TakenError while a rank of this index is on it."""
        with claim(self._folder / f"rank-{index}-{self._identity}.lock"):
            yield

    def list_present(self, wait_sec: float = 0.0) -> list[Path]:
        """List the ranks on the roll, by their files; those of ranks that have left are removed.

        Args:
            wait_sec: what all together are given to leave.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        look_anew(self._folder)
        present, until = [], time.monotonic() + wait_sec
        for path in sorted(self._folder.glob("rank-*.lock")):
            try:
                with claim(path, max(0.0, until - time.monotonic())):
                    path.unlink()
            except TakenError:
                present.append(path)
        return present

    def select_others(self, present: Sequence[Path]) -> list[Path]:
        """Select the ranks that train something else under the name of this cohort."""
        return [path for path in present if not path.stem.endswith(f"-{self._identity}")]
