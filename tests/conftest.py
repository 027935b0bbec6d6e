"""Fixtures of all tests. No test writes into the checkout, and none shows up in MLflow unasked."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch
# workers take their environment from the fork server, so this cannot be set by one test; how
# often states are saved changes no result
os.environ["KGAPS_SAVE_EVERY_SEC"] = "0.02"

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from knowledge_gaps.cli import main
from study_tools import REPOSITORY, STAGES, copy_root, make_smoke_root, run_stage, start_fork_server

sys.path.append(str(REPOSITORY / "benchmarks"))  # behind all else: one has a library's name
# a test run in the background of a shell would hand SIGINT, ignored, to all that it starts
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Outcome:
    """What a call of the command line came to."""

    code: int
    out: str
    err: str


RunKgaps = Callable[..., Outcome]
Refuse = Callable[..., None]


@pytest.fixture(autouse=True)
def _track_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KGAPS_TRACKING", "off")


@pytest.fixture(autouse=True)
def _restore_signals() -> Iterator[None]:
    """Undo what torchrun's launcher leaves in a process that it was called in."""
    yield
    # and not what was there before: a fixture of a module may have called it earlier
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a stage to one worker process."""
    monkeypatch.setenv("KGAPS_WORKERS", "1")


@pytest.fixture
def smoke_root(tmp_path: Path) -> Path:
    """Return a folder with the smoke study, in which nothing was run."""
    return make_smoke_root(tmp_path / "study")


@pytest.fixture(scope="session")
def trained_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the smoke study was run, but for the report; not to be altered."""
    start_fork_server()
    root = make_smoke_root(tmp_path_factory.mktemp("trained") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGAPS_TRACKING", "off")
        patch.setenv("KGAPS_WORKERS", "2")
        for stage in STAGES:
            run_stage(root, *stage)
    return root


@pytest.fixture
def trained_copy(trained_root: Path, tmp_path: Path) -> Path:
    """Return a copy of `trained_root` that a test may alter."""
    return copy_root(trained_root, tmp_path / "study")


@pytest.fixture
def run_kgaps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunKgaps:
    """Return a function that calls the command line in this process: root, then arguments."""

    def run(root: Path, *arguments: str) -> Outcome:
        monkeypatch.chdir(root)
        monkeypatch.setattr(sys, "argv", ["kgaps", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def refuse(run_kgaps: RunKgaps) -> Refuse:
    """Return a function that asserts how a call of the command line is refused.

    It takes the root, the arguments of the command line, what the one line must say, and the path
    of the result that must not be there afterwards.
    """

    def assert_refused(root: Path, arguments: str, words: tuple[str, ...], result: str) -> None:
        outcome = run_kgaps(root, *arguments.split())
        assert outcome.code == 2, outcome
        assert outcome.err.startswith("kgaps: "), outcome.err
        assert outcome.err.count("\n") == 1, outcome.err
        missing = [word for word in words if word not in outcome.err]
        assert not missing, outcome.err
        assert not (root / result).exists()
        assert not list(root.glob(f"{Path(result).parent}/.*.tmp"))

    return assert_refused
