"""How much faster instances of a GAN cohort train together than one after the other.

    python benchmarks/batched.py [--counts 1 2 4 8 16] [--repeats 5] [--json FILE] [--profile]

A step is that of the real trainers, for DCGANs of 28 x 28 pixels with R1 at its interval and
`--classifiers` frozen CNNs in the loss. "alone" is `GanTrainer`, K steps one after the other, each
of an instance of its own; "together" is the batched program with K instances. Both take turns in
one run; seconds are medians of blocks of `--steps` steps, which hold the draws of their batches. On
a CPU they are those of the process, of one thread, so that a busy machine disturbs little.

The limit is the larger of two times: the operations of K steps without R1, counted by torch, over
the rate of a large float32 matrix product, and their bytes over the bandwidth of a large copy, both
measured here. Bytes
are those of the tensors that a step's convolutions, products and normalisations read and write, of
weights and of optimiser states, each once: no cache can need less. "share" is the limit over the
time together.

On a CPU this shows that the program runs, and little more: a core that works at one instance is not
idle, so what is saved is what Python and torch spend between operations.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from knowledge_gaps.data.store import ImageStore, hold_images
from knowledge_gaps.models.architectures.cnn import Cnn, CnnSettings, make_input_spec
from knowledge_gaps.models.architectures.dcgan import (
    DcganDiscriminator,
    DcganGenerator,
    DcganSettings,
)
from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.runtime.accelerator import build_accelerator
from knowledge_gaps.runtime.determinism import configure_process
from knowledge_gaps.runtime.devices import keep_freed_memory
from knowledge_gaps.runtime.files import write_json
from knowledge_gaps.study import GanRecipe, OptimizerSettings
from knowledge_gaps.training.batched.capture import capture_where_possible
from knowledge_gaps.training.batched.draws import Draws
from knowledge_gaps.training.batched.stack import GanStack
from knowledge_gaps.training.batched.step import BatchedStep
from knowledge_gaps.training.batches import Stream
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.phases import Fooling

SHAPE = (1, 28, 28)
NUM_REALS = 4096
R1_INTERVAL = 16
# of what is moved and not only looked at
_COUNTED = ("convolution", "batch_norm", "mm", "addmm", "_adam")


@dataclass(frozen=True)
class Case:
    """What is trained; see the arguments of the command line."""

    batch_size: int
    channels: tuple[int, ...]
    num_classifiers: int
    precision: str

    def make_recipe(self) -> GanRecipe:
        """Make the recipe, with more steps than are made."""
        adam = OptimizerSettings(learning_rate=2e-4, betas=(0.5, 0.999))
        return GanRecipe(
            architecture="dcgan",
            steps=1_000_000,
            batch_size=self.batch_size,
            mixed_precision=self.precision,  # type: ignore[arg-type]
            r1_gamma=1.0,
            r1_interval=R1_INTERVAL,
            generator_optimizer=adam,
            discriminator_optimizer=adam,
        )

    def make_trainer(self, instance: int, images: ImageStore, accelerator: Any) -> GanTrainer:
        """Build one instance."""
        torch.manual_seed(instance)
        settings = DcganSettings(latent_dim=64, channels=list(self.channels))
        cnn = CnnSettings(channels=[16, 32])
        classifiers = [
            GanClassifier(Cnn(cnn, SHAPE), make_input_spec(cnn, SHAPE))
            for _ in range(self.num_classifiers)
        ]
        return GanTrainer(
            DcganGenerator(settings, SHAPE),
            DcganDiscriminator(settings, SHAPE),
            Fooling(classifiers, 0.1 if classifiers else 0.0, "sum"),
            images,
            self.make_recipe(),
            Stream(0, "gans/benchmark", instance),
            accelerator,
        )


@dataclass(frozen=True)
class Row:
    """Times of a step of K instances, seconds; `ratio` is alone over together."""

    instances: int
    alone_sec: float
    together_sec: float
    ratio: float
    limit_sec: float
    share: float


class Together:
    """The batched program without its files.

    Args:
        trainers: of the instances.
        case: what is trained.
        images: the reals.
        device: of the training.
    """

    def __init__(
        self, trainers: Sequence[GanTrainer], case: Case, images: ImageStore, device: torch.device
    ) -> None:
        recipe = case.make_recipe()
        autocast = trainers[0].accelerator.autocast
        self._stack = GanStack(trainers, recipe)
        self.step = BatchedStep(self._stack, trainers[0].fooling, recipe, autocast)
        self._functions = [
            capture_where_possible(function, device)
            for function in (self.step.run, self.step.run_regularised)
        ]
        streams = [Stream(0, "gans/benchmark", index) for index in range(len(trainers))]
        latent_dim = trainers[0].get_result().latent_dim
        self.draws = Draws(streams, images, recipe, latent_dim, device)

    def run(self, start: int, stop: int) -> None:
        """Make steps."""
        for step, batch in enumerate(self.draws.iterate(start, stop), start):
            self._stack.set_rates(step)
            self._functions[self.step.is_regularised(step)](batch.latents, batch.reals)
            self._stack.move_average(step)


class _ByteCounter(TorchDispatchMode):
    """Counts the bytes of the tensors that the counted operations read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(name in str(func) for name in _COUNTED):
            seen = [*tree_leaves((args, kwargs)), *tree_leaves(out)]
            self.num_bytes += sum(t.nbytes for t in seen if isinstance(t, Tensor))
        return out


def measure_limit(together: Together, alone: Sequence[GanTrainer], device: torch.device) -> float:
    """Return the seconds that a step without R1 takes at least on this device."""
    with FlopCounterMode(display=False) as flops:  # it counts grouped convolutions wrongly
        alone[0].run_step(1)
    batch = next(iter(together.draws.iterate(1, 2)))
    with _ByteCounter() as counter:
        together.step.run(batch.latents, batch.reals)
    rate, bandwidth = measure_matmul_rate(device), measure_bandwidth(device)
    num_operations = len(alone) * flops.get_total_flops()
    return float(max(num_operations / rate, counter.num_bytes / bandwidth))


def measure_matmul_rate(device: torch.device) -> float:
    """Return floating-point operations a second of a large float32 matrix product."""
    size = 4096 if device.type == "cuda" else 768
    matrix = torch.randn(size, size, device=device)
    return 2 * size**3 / time_block(lambda: matrix @ matrix, device)


def measure_bandwidth(device: torch.device) -> float:
    """Return bytes a second, read and written, of a large copy."""
    source = torch.zeros((1 << 30) if device.type == "cuda" else (64 << 20), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / time_block(lambda: target.copy_(source), device)


def time_block(function: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Return the median seconds of a call, the device's work included."""
    seconds, clock = [], time.perf_counter if device.type == "cuda" else time.process_time
    for _ in range(repeats + 1):
        wait_for(device)
        start = clock()
        function()
        wait_for(device)
        seconds.append(clock() - start)
    return statistics.median(seconds[1:])


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(case: Case, count: int, num_steps: int, repeats: int) -> Row:
    """Measure one number of instances; a block is `num_steps` steps of all of them."""
    accelerator = build_accelerator(0, case.precision)
    device, images = accelerator.device, make_images()
    alone = [case.make_trainer(index, images, accelerator) for index in range(count)]
    own = [case.make_trainer(index, images, accelerator) for index in range(count)]
    together = Together(own, case, images, device)
    limit = measure_limit(together, alone, device)

    def run_alone() -> None:
        for trainer in alone:
            for step in range(num_steps):
                trainer.run_step(step)

    for _ in range(4):  # a graph is captured at the fourth step of either kind
        together.run(0, R1_INTERVAL + 1)
    times: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(repeats):
        times["alone"].append(time_block(run_alone, device, 1))
        times["together"].append(time_block(lambda: together.run(0, num_steps), device, 1))
    ratio = statistics.median(
        one / all_ for one, all_ in zip(times["alone"], times["together"], strict=True)
    )
    medians = {name: statistics.median(values) / num_steps for name, values in times.items()}
    share = limit / medians["together"]
    return Row(count, medians["alone"], medians["together"], ratio, limit, share)


def make_images() -> ImageStore:
    """Make reals of random pixels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (NUM_REALS, *SHAPE), dtype=torch.uint8, generator=generator)
    return hold_images(images.numpy())


def profile(case: Case, count: int, num_steps: int) -> str:
    """Return torch's profile of some steps together."""
    accelerator, images = build_accelerator(0, case.precision), make_images()
    device = accelerator.device
    trainers = [case.make_trainer(index, images, accelerator) for index in range(count)]
    together = Together(trainers, case, images, device)
    together.run(0, 4 * R1_INTERVAL)
    with torch.profiler.profile() as record:
        together.run(0, num_steps)
        wait_for(device)
    key = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return str(record.key_averages().table(sort_by=key, row_limit=25))


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 32])
    parser.add_argument("--classifiers", type=int, default=1)
    parser.add_argument("--precision", choices=["no", "bf16"], default="no")
    parser.add_argument("--steps", type=int, default=32, help="of a block")
    parser.add_argument("--repeats", type=int, default=5, help="blocks of either way, in turns")
    parser.add_argument("--profile", action="store_true", help="of the largest count")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    configure_process()
    keep_freed_memory()
    case = Case(options.batch, tuple(options.channels), options.classifiers, options.precision)
    print("instances  alone ms  together ms  ratio  limit ms  share of limit")
    rows = []
    for count in options.counts:
        row = measure(case, count, options.steps, options.repeats)
        rows.append(row)
        times = f"{1e3 * row.alone_sec:8.2f}  {1e3 * row.together_sec:11.2f}  {row.ratio:5.2f}"
        print(f"{count:9d}  {times}  {1e3 * row.limit_sec:8.3f}  {row.share:14.2f}", flush=True)
    if options.profile:
        print(profile(case, max(options.counts), options.steps))
    if options.json is not None:
        content = {"case": asdict(case), "rows": [asdict(row) for row in rows]}
        write_json(options.json, content)


if __name__ == "__main__":
    main()
