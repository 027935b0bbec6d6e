"""How many images a second a full training step of StyleGAN2 shows, and what part of the limit.

    python benchmarks/stylegan2.py [--sizes 32 64 128 256] [--json FILE]
    python benchmarks/stylegan2.py --channel-base 16384 --max-channels 512 --batch 32 \\
        --classifier-divisor 1 --classifier-px 224      # the widths of settings/ffhq_paper.yaml

A step is that of the real trainer: discriminator, generator, both regularisers at the share of
steps that they are taken in, the moving average, with and without a frozen ResNet-50 in the loss.

All variants of a case take turns in one run; ratios are medians over the turns, each to this
project's own float32 eager step of the same turn. On a CPU, seconds are those of the process, of
one thread, so that a machine that is busy with something else disturbs little.

"textbook" is the step of `textbook_stylegan2`, with the same weights and function; "bf16" has the
four highest resolutions in bfloat16, "other layout" the other of channels first and last.
"compiled", which takes minutes a case, compiles what needs no second derivative, and is refused
where two runs differ by a bit.

The share is that of the machine's limit: the time that the base's convolutions and matrix products
would take at the measured rate of a large convolution in the variant's precision, of the time that
the step takes. Peak memory is each variant's own, in a process of its own. The defaults are narrow
networks that two cores measure in minutes.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from baselines.textbook_stylegan2 import TextbookTrainer, check_same_function
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import keep_freed_memory
from knowledge_gaps.core.files import write_json
from knowledge_gaps.models.architectures.stylegan2 import discriminator as discriminator_module
from knowledge_gaps.models.architectures.stylegan2 import synthesis as synthesis_module
from knowledge_gaps.models.architectures.stylegan2.generator import StyleGan2Generator
from knowledge_gaps.models.frozen import freeze
from knowledge_gaps.planning import networks, probe
from knowledge_gaps.planning.memory import MemoryMeter
from knowledge_gaps.planning.request import Network, ProbeRequest
from knowledge_gaps.planning.timing import Trainer, list_step_kinds, time_call
from knowledge_gaps.study import GanRecipe
from knowledge_gaps.training.accelerator import build_accelerator
from knowledge_gaps.training.gan import GanTrainer

BASE, TEXTBOOK = "fp32 eager", "textbook"
VARIANTS = (BASE, TEXTBOOK, "bf16", "other layout", "compiled")
DTYPES = {"bf16": torch.bfloat16}
R1_INTERVAL, PATH_LENGTH_INTERVAL = 16, 4
NUM_REALS = 256
RATE_SEC = 0.5  # a convolution's rate is measured for so long, at least


class Stepper(Protocol):
    """What trains step by step."""

    def run_step(self, step: int) -> object:
        """Make one step."""
        ...


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        size_px: side of the colour images.
        fools: a frozen ResNet-50 is in the generator's loss.
        batch_size: images of a step.
        channel_base: of StyleGAN2.
        max_channels: of StyleGAN2.
        classifier_divisor: of the ResNet-50's widths.
        classifier_px: side of the ResNet-50's input.
    """

    size_px: int
    fools: bool
    batch_size: int
    channel_base: int
    max_channels: int
    classifier_divisor: int
    classifier_px: int

    def make_request(self, num_half_blocks: int = 0) -> ProbeRequest:
        """Describe the training."""
        adam = {"learning_rate": 2e-3, "betas": (0.0, 0.99)}
        model = {
            "channel_base": self.channel_base,
            "max_channels": self.max_channels,
            "num_half_blocks": num_half_blocks,
        }
        recipe = {
            "architecture": "stylegan2",
            "model": model,
            "batch_size": self.batch_size,
            "ema_decay": 0.998,
            "r1_gamma": 1.0,
            "r1_interval": R1_INTERVAL,
            "path_length_weight": 2.0,
            "path_length_interval": PATH_LENGTH_INTERVAL,
            "generator_optimizer": adam,
            "discriminator_optimizer": adam,
        }
        classifier = {"width_divisor": self.classifier_divisor, "input_px": self.classifier_px}
        frozen = (Network("resnet50", classifier),) if self.fools else ()
        return ProbeRequest("gans", recipe, frozen, 1.0, (3, self.size_px, self.size_px))


@dataclass
class Row:
    """One variant of one case; `skipped` says why there is no number."""

    size_px: int
    fools: bool
    variant: str
    images_per_sec: float | None = None
    ratio: float | None = None
    peak_bytes: int | None = None
    share_of_limit: float | None = None
    flop_per_image: float | None = None
    skipped: str = ""
    seconds: list[float] = field(default_factory=list)


# --------------------------------------------------------------------------------------- variants


def build_stepper(case: Case, variant: str) -> Stepper:
    """Build a variant's trainer; raises for what this machine or torch does not allow."""
    torch.manual_seed(0)
    if variant == TEXTBOOK:
        return build_textbook(case)
    # the published code's four highest resolutions, of those above 4 px
    num_half_blocks = min(4, case.size_px.bit_length() - 3) if variant in DTYPES else 0
    trainer = probe.build_trainer(case.make_request(num_half_blocks), case.batch_size)
    if variant in DTYPES:  # not by Accelerate, which knows one precision a process
        device_type = trainer.accelerator.device.type
        trainer.accelerator.autocast = partial(torch.autocast, device_type, DTYPES[variant])
    if variant == "compiled":
        compile_networks(trainer)
        check_repeatable(trainer, case)
    return trainer


def build_textbook(case: Case) -> Stepper:
    """Build the textbook's trainer with this project's networks, and check that it is the same."""
    request, device = case.make_request(), build_accelerator(0).device
    recipe = request.parse_recipe()
    assert isinstance(recipe, GanRecipe)
    own = ("stylegan2", recipe.model, request.image_shape)
    generator, discriminator = networks.build_generator(*own), networks.build_discriminator(*own)
    assert isinstance(generator, StyleGan2Generator)
    assert isinstance(discriminator, discriminator_module.StyleGan2Discriminator)
    classifiers = [
        networks.build_classifier(net.architecture, net.model, request.image_shape)
        for net in request.frozen
    ]
    reals = torch.randint(256, (NUM_REALS, *request.image_shape), dtype=torch.uint8)
    check_same_function(generator.to(device), discriminator.to(device))
    frozen = [freeze(classifier).to(device) for classifier in classifiers]
    return TextbookTrainer(generator, discriminator, frozen, reals, recipe)


def compile_networks(trainer: Trainer) -> None:
    """Compile both networks and the frozen ones where no second derivative is asked for.

    torch.compile has none, so the regularisers keep the eager networks.
    """
    torch._inductor.config.fallback_random = True  # eager's random numbers
    torch._inductor.config.compile_threads = 1
    assert isinstance(trainer, GanTrainer)
    for network in trainer.modules.values():
        eager = network.forward
        network.forward = _choose_forward(eager, torch.compile(eager, dynamic=False))


def _choose_forward(
    eager: Callable[[Tensor], Tensor], compiled: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    def forward(inputs: Tensor) -> Tensor:
        is_regularised = inputs.requires_grad and inputs.is_leaf
        return eager(inputs) if is_regularised else compiled(inputs)

    return forward


def check_repeatable(trainer: Trainer, case: Case) -> None:
    """Check that two fresh trainers end in the same bits; raises RuntimeError when they do not."""
    torch.manual_seed(0)
    other = probe.build_trainer(case.make_request(), case.batch_size)
    compile_networks(other)
    for step in (1, 2):
        trainer.run_step(step)
        other.run_step(step)
    for name, module in trainer.modules.items():
        for key, value in other.modules[name].state_dict().items():
            if not torch.equal(module.state_dict()[key], value):
                raise RuntimeError(f"not deterministic: {name}.{key} differs between two runs")


@contextmanager
def use_layout(variant: str) -> Iterator[None]:
    """Let float32 blocks run in the other memory layout, for the variant that asks for it."""
    if variant != "other layout":
        yield
        return
    modules: list[Any] = [discriminator_module, synthesis_module]
    own = modules[0].to_block

    def to_other(values: Tensor, half_dtype: torch.dtype | None) -> Tensor:
        values = own(values, half_dtype)
        if values.is_contiguous(memory_format=torch.channels_last) and values.shape[1] > 1:
            return values.contiguous()
        return values.contiguous(memory_format=torch.channels_last)

    for module in modules:
        module.to_block = to_other
    try:
        yield
    finally:
        for module in modules:
            module.to_block = own


# ------------------------------------------------------------------------------------- measurement


def measure_case(
    case: Case, variants: Sequence[str], repeats: int, with_memory: bool = True
) -> list[Row]:
    """Measure all variants of a case in turns.

    Args:
        case: what is trained.
        variants: the base first.
        repeats: turns.
        with_memory: build each variant once more, in a process of its own, for its peak memory.
    """
    kinds = list_step_kinds([1, R1_INTERVAL, PATH_LENGTH_INTERVAL])
    rows = {name: Row(case.size_px, case.fools, name) for name in variants}
    steppers: dict[str, Stepper] = {}
    for name, row in rows.items():
        try:
            steppers[name] = build_stepper(case, name)
            _time_period(steppers[name], name, kinds, 0)  # a warm-up
        except Exception as error:  # of any kind: what does not run here is said, and passed over
            steppers.pop(name, None)
            row.skipped = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    flop = count_flop(steppers[BASE], kinds)
    for repeat in range(1, repeats + 1):
        for name, stepper in steppers.items():
            rows[name].seconds.append(_time_period(stepper, name, kinds, repeat))
    steppers.clear()
    gc.collect()
    for name, row in rows.items():
        if not row.skipped:
            _fill(row, rows[BASE], case, flop)
            row.peak_bytes = measure_memory(case, name) if with_memory else None
    return list(rows.values())


def _fill(row: Row, base: Row, case: Case, flop: float) -> None:
    seconds = statistics.median(row.seconds)
    row.images_per_sec = case.batch_size / seconds
    row.ratio = statistics.median(
        mine / own for mine, own in zip(base.seconds, row.seconds, strict=True)
    )
    row.flop_per_image = flop / case.batch_size
    rate = measure_convolution_rate(DTYPES.get(row.variant, torch.float32))
    row.share_of_limit = flop / seconds / rate


def _time_period(stepper: Stepper, variant: str, kinds: dict[int, int], repeat: int) -> float:
    """Time a step of every kind; return the mean step's seconds over a period."""
    period = sum(kinds.values())
    with use_layout(variant):
        total = 0.0
        for step, count in kinds.items():
            total += _time(partial(stepper.run_step, step + repeat * period)) * count
    return total / period


class FlopCounter(TorchDispatchMode):
    """Counts by torch's own formulas; its FlopCounterMode cannot stand second derivatives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def count_flop(stepper: Stepper, kinds: dict[int, int]) -> float:
    """Count the floating-point operations of the mean step: convolutions and matrix products."""
    total = 0.0
    for step, count in kinds.items():
        with FlopCounter() as counter:
            stepper.run_step(step)
        total += counter.total * count
    return total / sum(kinds.values())


@cache
def measure_convolution_rate(dtype: torch.dtype) -> float:
    """Return the operations a second of a large 3x3 convolution, in its faster layout."""
    device = build_accelerator(0).device
    size_px, channels, num_images = (64, 512, 32) if device.type == "cuda" else (32, 256, 4)
    flop = 2 * num_images * size_px**2 * channels**2 * 9
    rates = []
    for layout in (torch.contiguous_format, torch.channels_last):
        maps = torch.randn(num_images, channels, size_px, size_px, device=device, dtype=dtype)
        weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        maps, weight = maps.to(memory_format=layout), weight.to(memory_format=layout)
        times: list[float] = []
        while len(times) < 4 or sum(times) < RATE_SEC:
            times.append(_time(partial(F.conv2d, maps, weight, padding=1)))
        rates.append(flop / statistics.median(times[1:]))
    return max(rates)


def measure_memory(case: Case, variant: str) -> int | None:
    """Return a variant's peak memory, measured in a process of its own; None where that fails."""
    command = [sys.executable, __file__, "--memory-of", json.dumps([asdict(case), variant])]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(finished.stdout.split()[-1]) if finished.returncode == 0 else None


def run_for_memory(case: Case, variant: str) -> int:
    """Run a step of every kind in this process; return the peak of its memory."""
    meter = MemoryMeter()
    meter.start()
    kinds = list_step_kinds([1, R1_INTERVAL, PATH_LENGTH_INTERVAL])
    _time_period(build_stepper(case, variant), variant, kinds, 0)
    return meter.read_peak()


def _time(run: Callable[[], object]) -> float:
    return time_call(run, build_accelerator(0).device)


# ------------------------------------------------------------------------------------ command line


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print a table."""
    parser = argparse.ArgumentParser(description="Time StyleGAN2's training step.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256], help="px")
    parser.add_argument("--channel-base", type=int, default=1024)
    parser.add_argument("--max-channels", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8, help="images of a step")
    parser.add_argument("--classifier-divisor", type=int, default=8, help="of ResNet-50's widths")
    parser.add_argument("--classifier-px", type=int, default=64, help="side of its input")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS[:4]))
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--only", choices=["plain", "fooling"], help="one half of the cases")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    configure_process()
    keep_freed_memory()
    if options.memory_of is not None:
        case, variant = json.loads(options.memory_of)
        print(run_for_memory(Case(**case), variant))
        return 0
    variants = list(dict.fromkeys([BASE, *options.variants]))
    found: list[Row] = []
    print_head()
    for size_px in options.sizes:
        for fools in (False, True):
            if options.only == ("plain" if fools else "fooling"):
                continue
            widths = (options.channel_base, options.max_channels)
            classifier = (options.classifier_divisor, options.classifier_px)
            case = Case(size_px, fools, options.batch, *widths, *classifier)
            rows = measure_case(case, variants, options.repeats)
            print_rows(rows)
            found += rows
    if options.json is not None:
        write_json(options.json, {"rows": [asdict(row) for row in found]})
    return 0


def print_head() -> None:
    """Print the machine's limit and the table's head."""
    for dtype in (torch.float32, torch.bfloat16):
        rate = measure_convolution_rate(dtype) / 1e9
        print(f"large convolution, {str(dtype).removeprefix('torch.')}: {rate:,.1f} GFLOP/s")
    print(
        f"{'px':>4} {'fooling':<8}{'variant':<14}{'images/s':>10}{'ratio':>8}"
        f"{'GFLOP/image':>13}{'share':>8}{'peak MB':>10}"
    )


def print_rows(rows: Sequence[Row]) -> None:
    """Print a case."""
    for row in rows:
        head = f"{row.size_px:>4} {'yes' if row.fools else 'no':<8}{row.variant:<14}"
        if row.images_per_sec is None or row.ratio is None:
            print(f"{head}skipped: {row.skipped}", flush=True)
            continue
        flop, share = (row.flop_per_image or 0) / 1e9, row.share_of_limit or 0
        peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:,.0f}"
        print(
            f"{head}{row.images_per_sec:>10.2f}{row.ratio:>8.2f}{flop:>13.3f}{share:>8.2f}"
            f"{peak:>10}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
