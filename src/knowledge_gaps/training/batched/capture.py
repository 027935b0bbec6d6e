"""A step as a CUDA graph: launched as one, where its hundreds of small kernels would be in turn.

Only a GPU has it: on a CPU the function itself runs at every step. What a function must be for a
graph to do the same (one set of tensors, no number that Python works out anew, no waiting) is
tested on the CPU, by a recorder of its operations; `CudaRecorder` itself was not run by any test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

StepFunction = Callable[[Tensor, Tensor], dict[str, Tensor]]

_NUM_WARM_UPS = 3  # of a function before it is captured, as libraries set themselves up


class Recorder(Protocol):
    """Records what a function does to tensors, and does it again."""

    def warm_up(self, function: StepFunction, *inputs: Tensor) -> dict[str, Tensor]:
        """Call the function so that it can be recorded afterwards."""
        ...

    def record(self, function: StepFunction, *inputs: Tensor) -> dict[str, Tensor]:
        """Record the function and do it once; return the tensors that each replay overwrites."""
        ...

    def replay(self) -> None:
        """Do what was recorded, on the present content of the same inputs."""
        ...


class CudaRecorder:
    """A CUDA graph."""

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream()

    def warm_up(self, function: StepFunction, *inputs: Tensor) -> dict[str, Tensor]:
        """Call the function on a stream of its own, as capturing needs it."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            outputs = function(*inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def record(self, function: StepFunction, *inputs: Tensor) -> dict[str, Tensor]:
        """Capture the function, which runs nothing yet, and launch the graph."""
        # what another thread does meanwhile (it draws batches) does not touch this stream
        mode = "thread_local"
        with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode=mode):
            outputs = function(*inputs)
        self._graph.replay()
        return outputs

    def replay(self) -> None:
        """Launch the graph."""
        self._graph.replay()


class CapturedStep:
    """A step function that is recorded at one of its first calls and replayed from then on.

    Args:
        function: from latents and reals of all instances to their logged scalars; it updates
            weights in place.
        recorder: new, for this function alone.
    """

    def __init__(self, function: StepFunction, recorder: Recorder) -> None:
        self._function, self._recorder = function, recorder
        self._num_calls = 0
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: dict[str, Tensor] = {}

    def __call__(self, latents: Tensor, reals: Tensor) -> dict[str, Tensor]:
        """Make a step; the scalars are overwritten by the next one."""
        self._num_calls += 1
        if self._num_calls <= _NUM_WARM_UPS:
            return self._recorder.warm_up(self._function, latents, reals)
        if not self._inputs:
            self._inputs = latents.clone(), reals.clone()
            self._outputs = self._recorder.record(self._function, *self._inputs)
            return self._outputs
        for kept, value in zip(self._inputs, (latents, reals), strict=True):
            kept.copy_(value, non_blocking=True)
        self._recorder.replay()
        return self._outputs


def capture_where_possible(function: StepFunction, device: torch.device) -> StepFunction:
    """Return a step function that does the same, launched as one graph on a GPU."""
    return CapturedStep(function, CudaRecorder()) if device.type == "cuda" else function
