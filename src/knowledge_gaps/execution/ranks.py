"""One instance on several GPUs: how the ranks that train it together are started, and what they do.

Rank 0 holds the locks, reports and publishes; the others train what it announces.
"""

from __future__ import annotations

import logging
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import count_gpus, find_gpu, read_rank
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.signals import StopFlag, catch_stop_signals
from knowledge_gaps.execution.assignment import Assignment, Callback, LockedError, train_assignment
from knowledge_gaps.execution.parallel import Executor
from knowledge_gaps.training.loop import DivergedError
from knowledge_gaps.training.ranks import Ranks
from knowledge_gaps.training.task import Session


class RankError(UserError):
    """An error that one rank has alone: the others wait in the middle of a step."""


_KNOWN = {"StoppedError": StoppedError, "UserError": UserError, "RankError": UserError}


def launch_ranks(num_processes: int, function: Callable[..., None], *arguments: object) -> None:
    """Run a function of a module in processes of this machine that are ranks to one another.

    Raises StoppedError, the state saved, and UserError, a rank's or when one was killed.
    """
    logging.disable(logging.CRITICAL)  # torchrun's account of what is one line below
    with tempfile.TemporaryDirectory(prefix="kgaps-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_processes,
            run_id=uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",  # the name of this machine need not resolve
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, _call)(function, arguments)  # it would turn enums into text
        except SignalException as error:
            raise StoppedError("state saved, the same command resumes") from error
        except ChildFailedError as error:
            raise _find_failure(Path(folder)) from error
        finally:
            logging.disable(logging.NOTSET)
            for process in multiprocessing.active_children():  # a second Ctrl-C waits for none
                process.kill()


def train_as_rank(assignments: Sequence[Assignment], lead: Callable[[Executor], None]) -> None:
    """Train instances of a cohort as one of several ranks.

    Rank 0 leads, by an `Executor`. Raises StoppedError, the state saved, and UserError: rank 0's,
    or when this rank would train something else.
    """
    configure_process()
    entries = {entry.directory.name: entry for entry in assignments}
    with join_ranks() as ranks:
        if ranks.agree(ranks.share(list(entries)) != list(entries)):
            cohort = assignments[0].cohort_path
            raise UserError(f"{cohort}: hosts differ in code, data or params.yaml")
        if not ranks.is_main:
            _follow(ranks, entries)
            return
        try:
            lead(partial(_run_together, ranks))
        except RankError:
            raise
        except (StoppedError, UserError) as error:
            ranks.share(error)
            raise
        ranks.share(None)


@contextmanager
def join_ranks() -> Iterator[Ranks]:
    """Meet the other ranks by torchrun's variables, and leave them at the end of a good run."""
    rank, num_gpus = read_rank(), count_gpus()
    assert rank is not None
    if num_gpus > 0:
        torch.cuda.set_device(find_gpu(rank, num_gpus))
    dist.init_process_group("cpu:gloo,cuda:nccl" if num_gpus > 0 else "gloo")
    yield Ranks(rank.size, rank.index)
    dist.destroy_process_group()


def _run_together(
    ranks: Ranks, assignments: Sequence[Assignment], callback: Callback, stop: StopFlag
) -> dict[Instance, str]:
    """Train instances one after the other by all ranks; an `Executor` of rank 0."""
    errors = {}
    for entry in assignments:
        announce = partial(ranks.share, entry.directory.name)
        try:
            train_assignment(entry, 0, stop.is_set, callback, announce)
        except (DivergedError, LockedError) as error:  # all ranks have it, or none has begun
            errors[entry.instance] = str(error)
        except UserError as error:
            raise RankError(f"{entry.cohort_path}/{entry.instance}: {error}") from error
    return errors


def _follow(ranks: Ranks, entries: Mapping[str, Assignment]) -> None:
    """Train what rank 0 announces, until it sends None or its error."""
    with catch_stop_signals() as stop:
        while (sent := ranks.share(None)) is not None:
            if isinstance(sent, Exception):
                raise sent
            with suppress(StoppedError, DivergedError):
                entries[sent].train(0, Session(stop.is_set))


def _call(function: Callable[..., None], arguments: Sequence[object]) -> None:
    function(*arguments)


def _find_failure(folder: Path) -> Exception:
    """Return what a rank raised, by the error files that torchrun's function wrapper left."""
    texts = []
    for path in sorted(folder.rglob("error.json")):
        kind, _, text = read_json(path)["message"]["message"].partition(": ")
        if kind in _KNOWN:
            return _KNOWN[kind](text)
        texts.append(f"{kind}: {' '.join(text.split())}")
    reason = "; ".join(texts) or "killed, often by too little memory"
    return UserError(f"a rank failed ({reason}); the same command resumes")
