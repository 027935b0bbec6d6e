"""Probes by their requests: from the cache, or by a process of its own for each.

An answer is kept under a hash of all that decides it: what was asked, the machine, the code and
torch's version. So a second plan is there at once, and a probe is never taken for another's.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from knowledge_gaps.core.cache import make_key
from knowledge_gaps.core.devices import count_cores, count_gpus
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import get_state_directory
from knowledge_gaps.planning.inventory import ImageShape
from knowledge_gaps.planning.request import Measurement, ProbeRequest

DEFAULT_BUDGET_SEC = 60.0
_PROBE_MODULE = "knowledge_gaps.planning.probe"
_BESIDES = ("runtime.devices", "study.recipes")  # they decide how fast, or by defaults what
_PROCESSOR_FILE = Path("/proc/cpuinfo")
_KILLED = -9  # what the system does to a process that takes too much memory
_GRACE_SEC = 120.0  # for imports, and for a smallest batch that takes longer than the budget

Counts = dict[str, dict[str, int]]  # by network: "parameters" and "stored_bytes"


class Prober:
    """Asks for measurements and sizes, each once.

    Args:
        root: the repository's root.
        budget_sec: a probe takes about so long at most.
        say: told what is being probed.
    """

    def __init__(self, root: Path, budget_sec: float, say: Callable[[str], None]) -> None:
        self._folder = get_state_directory(root) / "plan"
        self._budget_sec, self._say = budget_sec, say

    def count(
        self, entries: Sequence[tuple[str, str, dict[str, Any]]], shape: ImageShape
    ) -> list[Counts]:
        """Count the networks of recipes, given as kind, architecture and model settings.

        Raises:
            UserError: when an architecture is unknown or does not fit the images.
        """
        question = {"count": [[*entry, list(shape)] for entry in entries]}
        architectures = [architecture for _, architecture, _ in entries]
        file = self._get_file(question, hash_code("planning.networks", architectures))
        if not file.exists():
            answer = _ask(question, timeout_sec=None)
            if answer is None:
                raise UserError("the sizes of the networks could not be counted")
            self._keep(file, answer)
        counts: list[Counts] = read_json(file)["counts"]
        return counts

    def find(self, request: ProbeRequest, title: str) -> Measurement | str:
        """Return the measurement of a request, or why there is none.

        Args:
            request: what is trained.
            title: of the probe, for people.
        """
        question = {
            "request": request.to_json(),
            "budget_sec": self._budget_sec,
            "largest_batch": request.parse_recipe().batch_size,
        }
        architectures = [request.recipe["architecture"], *(n.architecture for n in request.frozen)]
        code = hash_code("planning.probe", architectures, besides=_BESIDES)
        file = self._get_file(question, code, describe_machine())
        if not file.exists():
            self._say(title)
            answer = self._probe(question)
            if "measurement" not in answer:
                return _explain(answer)
            self._keep(file, answer)
        return Measurement(**read_json(file)["measurement"])

    def _probe(self, question: dict[str, Any]) -> dict[str, Any]:
        """Ask, and again with a smaller batch as long as the system ends the probe."""
        largest: int = question["largest_batch"]
        while largest >= 2:
            smaller = {**question, "largest_batch": largest}
            answer = _ask(smaller, self._budget_sec + _GRACE_SEC)
            if answer is not None:
                return answer
            largest //= 2
        return {"too_large": True}

    def _get_file(self, *parts: Any) -> Path:
        key = make_key(*parts, get_versions(["torch", "torchvision", "accelerate"]))
        return self._folder / f"{key}.json"

    def _keep(self, file: Path, answer: dict[str, Any]) -> None:
        if "error" in answer:
            raise UserError(answer["error"])
        write_json(file, answer)


def describe_machine() -> list[str]:
    """Name what decides how fast a training is here."""
    if count_gpus() > 0:
        import torch

        return [torch.cuda.get_device_name(0), f"{count_gpus()} GPUs"]
    return [_find_processor(), f"{count_cores()} cores"]


def _find_processor() -> str:
    try:
        for line in _PROCESSOR_FILE.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _ask(question: dict[str, Any], timeout_sec: float | None) -> dict[str, Any] | None:
    """Run the probe's process; return its answer, None when the system ended it."""
    with tempfile.TemporaryDirectory() as folder:
        question_file, answer_file = Path(folder, "question.json"), Path(folder, "answer.json")
        write_json(question_file, question)
        command = [sys.executable, "-m", _PROBE_MODULE, str(question_file), str(answer_file)]
        # as in the workers: one thread, whatever the shell says
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        try:
            finished = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_sec,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"the smallest batch takes longer than {timeout_sec:.0f} s"}
        if finished.returncode == _KILLED:
            return None
        if finished.returncode != 0:
            lines = finished.stderr.strip().splitlines()
            return {"error": lines[-1] if lines else f"exit code {finished.returncode}"}
        return read_json(answer_file)


def _explain(answer: dict[str, Any]) -> str:
    if "too_large" in answer:
        return "not even the smallest batch fits into the memory"
    return str(answer["error"])
