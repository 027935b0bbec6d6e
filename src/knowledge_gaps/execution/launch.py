"""How many processes train one instance, and how they are started: through torchrun.

`kgaps gans COHORT` decides by itself. With no more GPUs than instances that wait, or without GPUs,
it trains the instances side by side and nothing of this file happens. With more GPUs it trains
them one after the other, each by a rank on every GPU: it starts itself again under torchrun, looks
after it and takes its outcome over. KGAPS_PROCESSES or --num-processes decide instead. Where
torchrun's variables are set already, on several hosts, this process is a rank itself: of all that
train an instance together, or, with one process an instance, of those that share out the cohort.

torchrun ends with code 1 whatever happened, and says so at length. So the ranks leave notes of
their outcomes in a folder, and this process ends as one of them would have ended on its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from knowledge_gaps.core.devices import WORKERS_VARIABLE, count_gpus, read_rank
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.execution.signals import StopFlag, catch_stop_signals

PROCESSES_VARIABLE = "KGAPS_PROCESSES"
_LAUNCH_VARIABLE = "KGAPS_LAUNCH_FOLDER"  # set for ranks that this file started
_POLL_SEC = 0.2
_END_SEC = 5.0
_PASSED_ON = ("tracking: ",)  # lines of a good run's stderr that the user should see


def read_num_processes(option: int | None) -> int | None:
    """Return how many processes are to train one instance, by option or environment.

    Args:
        option: of the command line, if given; at least 1.

    Raises:
        UserError: when KGAPS_PROCESSES is no count, this host has fewer GPUs (but some), or
            torchrun started another number, other than 1.
    """
    key, count = "--num-processes", option
    if count is None:
        key, text = PROCESSES_VARIABLE, os.environ.get(PROCESSES_VARIABLE)
        if text is None:
            return None
        if not text.isdecimal() or int(text) < 1:
            raise UserError(f"{key}: {text!r} found, a count of at least 1 is needed")
        count = int(text)
    rank, num_gpus = read_rank(), count_gpus()
    if rank is not None and count not in (1, rank.size):
        raise UserError(f"{key}: {count} found, but torchrun started {rank.size} processes")
    if rank is None and 0 < num_gpus < count:
        raise UserError(f"{key}: {count} found, this machine has {num_gpus} GPUs")
    return count


def is_launch_due(num_waiting: int) -> bool:
    """Tell whether GPUs would be idle if every waiting instance had one of its own."""
    return WORKERS_VARIABLE not in os.environ and 0 < num_waiting < count_gpus()


def check_alone(stage: str) -> None:
    """Refuse to run a stage in several processes of torchrun; each would do all of it."""
    rank = read_rank()
    if rank is not None:
        raise UserError(
            f"WORLD_SIZE: {rank.size} found, but {stage!r} runs as one process; gans and "
            "classifiers may be started by torchrun"
        )


def launch_ranks(num_processes: int, arguments: Sequence[str]) -> None:
    """Start this program again under torchrun on this host, and wait for its end.

    Args:
        num_processes: ranks to start.
        arguments: of the command line, the command first.

    Raises:
        StoppedError: when this process was told to stop, and the ranks saved the state.
        UserError: when a rank failed.
    """
    with tempfile.TemporaryDirectory(prefix="kgaps-") as name, catch_stop_signals() as stop:
        folder = Path(name)
        with FileLock(_get_lock_file(folder)), (folder / "stderr").open("wb") as errors:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node", str(num_processes), "-m", "knowledge_gaps"]
            process = subprocess.Popen(
                [*command, *arguments],
                env={**os.environ, _LAUNCH_VARIABLE: name},
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches this process alone, which tells torchrun
            )
            try:
                _wait(process, stop)
            finally:
                _end(process)
        _judge(folder, process.returncode, stop.is_set())


class Launcher:
    """Whoever started this rank, seen from the rank: torchrun, and the kgaps before it if any."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        folder = os.environ.get(_LAUNCH_VARIABLE)
        self._folder = None if folder is None else Path(folder)

    def is_gone(self) -> bool:
        """Tell whether one of them has ended; the latter holds a lock as long as it lives."""
        if os.getppid() != self._parent:
            return True
        if self._folder is None:
            return False
        try:
            with FileLock(_get_lock_file(self._folder), timeout=0):
                return True
        except Timeout:
            return False
        except OSError:  # the folder is no longer there
            return True


def note_outcome(code: int, text: str) -> None:
    """Leave a note of how this rank ended, for the process that started torchrun, if it is one."""
    rank, folder = read_rank(), os.environ.get(_LAUNCH_VARIABLE)
    if rank is not None and folder is not None:
        with suppress(UserError):
            write_json(Path(folder) / f"rank-{rank.index}.json", {"code": code, "text": text})


def _get_lock_file(folder: Path) -> Path:
    return folder / "launcher.lock"


def _wait(process: subprocess.Popen[bytes], stop: StopFlag) -> None:
    """Wait for torchrun, and pass a stop on to it once."""
    is_told = False
    while process.poll() is None:
        if stop.is_set() and not is_told:
            is_told = True
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SEC)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End torchrun if it is still there: this process was interrupted a second time.

    Ranks whose launcher has gone save their state and end by themselves.
    """
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SEC)
        process.kill()


def _judge(folder: Path, code: int, is_stopped: bool) -> None:
    """Raise what the ranks' notes say; without any, show what was written to stderr."""
    lines = (folder / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        if line.startswith(_PASSED_ON):
            print(line, file=sys.stderr)
    if code == 0:
        return
    notes = [read_json(path) for path in sorted(folder.glob("rank-*.json"))]
    for kind, error in ((2, UserError), (130, StoppedError)):
        texts = [note["text"] for note in notes if note["code"] == kind]
        if texts:
            raise error(texts[0])
    if is_stopped:  # before the ranks had begun
        raise StoppedError("the training had not begun; the same command resumes")
    print("\n".join(lines), file=sys.stderr)
    raise UserError(
        f"a process of torchrun ended by itself (exit code {code}; its last words are above, and "
        "-9 among them is often too little memory); the same command resumes"
    )
