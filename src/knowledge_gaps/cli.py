"""The command line: parse, read the study, call one stage; no logic.

Exit codes: 0 done, 1 (of `verdicts`) some are others, 2 something that the user can mend (one line
says what), 130 interrupted after the state was saved.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from knowledge_gaps import __version__
from knowledge_gaps.core.devices import check_alone, clean_environment, has_gpu_driver
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.execution.parallel import start_fork_server
from knowledge_gaps.study import PARAMS_FILE, Study, load_study
from knowledge_gaps.study.presets import describe_presets, use_preset
from knowledge_gaps.study.unchanged import require_unchanged

_HELP = "Train GANs against GAN-classifiers, again and again. `dvc repro` calls the stages."

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
track_app = typer.Typer(help="MLflow as a view of the files.", no_args_is_help=True)
settings_app = typer.Typer(
    help="Studies that come with the project, and the keys of any study.", no_args_is_help=True
)
app.add_typer(track_app, name="track")
app.add_typer(settings_app, name="settings")

Cohort = Annotated[str, typer.Argument(help="name of the cohort in params.yaml")]
NumProcesses = Annotated[
    int | None,
    typer.Option(min=1, help="processes that train one instance together"),
]
Instance = Annotated[
    int | None, typer.Option(min=0, help="train this instance alone, for the cohort to take up")
]
# stages that call `map_parallel`, and what their workers import beside the stage: the audit trains;
# not samples, which finds out first whether there is anything to import torch for
_IN_WORKERS: dict[str, tuple[str, ...]] = {
    "detections": (),
    "quality": (),
    "spectra": (),
    "attributions": (),
    "audit": ("torch._dynamo",),
    "agreement": (),
}
_IN_RANKS = ("gans", "classifiers")  # what torchrun may start in several processes


def main() -> None:
    """Run the command line and turn the project's errors into exit codes."""
    clean_environment()
    gc.set_threshold(50_000, 50, 100)  # the thousands of modules that are imported are no garbage
    try:
        app(standalone_mode=True)
    except UserError as error:
        _end(2, "", str(error))
    except OSError as error:  # a full disk under something that does not know UserError
        _end(2, "", f"{error.filename or 'file'}: {error.strerror or error}")
    except StoppedError as error:  # Ctrl-C elsewhere is typer's, which ends with 130 as well
        _end(130, "interrupted: ", str(error))


def _end(code: int, start: str, text: str) -> NoReturn:
    print(f"kgaps: {start}{text}".rstrip(), file=sys.stderr)
    sys.exit(code)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"kgaps {__version__}")
        raise typer.Exit


@app.callback()
def read_options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="print the version"),
    ] = False,
) -> None:
    """Read what stands before a command."""


@app.command()
def check() -> None:
    """Check params.yaml whole, from its keys to its networks, and note the code that trains."""
    _run_stage("check")


@app.command()
def prepare() -> None:
    """Verify the reals and write data/prepared."""
    _run_stage("prepare")


@app.command()
def gans(cohort: Cohort, num_processes: NumProcesses = None, instance: Instance = None) -> None:
    """Train the GANs of a cohort."""
    _run_stage("gans", cohort, num_processes=num_processes, instance=instance)


@app.command()
def classifiers(
    cohort: Cohort, num_processes: NumProcesses = None, instance: Instance = None
) -> None:
    """Train the GAN-classifiers of a cohort."""
    _run_stage("classifiers", cohort, num_processes=num_processes, instance=instance)


@app.command()
def pools(pool: Annotated[str, typer.Argument(help="name of the pool in params.yaml")]) -> None:
    """Write the manifest of a pool of frozen instances."""
    _run_stage("pools", pool)


@app.command()
def samples() -> None:
    """Sample every generator for evaluation."""
    _run_stage("samples")


@app.command()
def detections() -> None:
    """Let every classifier score every generator."""
    _run_stage("detections")


@app.command()
def quality() -> None:
    """Measure the quality of every generator's images."""
    _run_stage("quality")


@app.command()
def spectra() -> None:
    """Measure spectra and residuals of reals and of every generator's images."""
    _run_stage("spectra")


@app.command()
def attributions() -> None:
    """Ask classifiers in the loss and held-out ones which pixels they look at."""
    _run_stage("attributions")


@app.command()
def audit() -> None:
    """Ask whether classifiers could see how images are stored instead of what they show."""
    _run_stage("audit")


@app.command()
def agreement() -> None:
    """Compare classifiers of one cohort by their errors and their features."""
    _run_stage("agreement")


@app.command()
def report() -> None:
    """Write the report."""
    _run_stage("report")
    _run_stage("track", function="sync_experiment")


@app.command()
def plan(
    probe: Annotated[bool, typer.Option(help="time some steps of every distinct training")] = True,
    json: Annotated[bool, typer.Option("--json", help="print JSON, in bytes and seconds")] = False,
) -> None:
    """Print what the study costs on this machine: trainings, time, disk, what is finished."""
    _run_stage("plan", with_timing=probe, as_json=json)


@app.command()
def sweep(
    axes: Annotated[list[str], typer.Argument(metavar="KEY=V1,V2,...", help="of params.yaml")],
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="experiments at the same time")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print the grid")] = False,
) -> None:
    """Run the study for every combination of values, through DVC's experiment queue."""
    _run_above("sweep", axes, _check_study, jobs, dry_run)


@app.command()
def verdicts(
    before: Annotated[Path, typer.Argument(help="verdicts.json of a study")],
    after: Annotated[Path, typer.Argument(help="of another one")] = Path("reports/verdicts.json"),
) -> None:
    """Say which claims have another verdict in another study; exit code 1 if there are any.

    A claim that only one of them was asked has no other verdict.
    """
    is_same = import_module("knowledge_gaps.stages.verdicts").run(before, after)
    raise typer.Exit(0 if is_same else 1)


@track_app.command("sync")
def track_sync() -> None:
    """Rebuild MLflow's runs and registry from the files; nothing the second time."""
    _run_stage("track", function="sync")


@settings_app.command("list")
def settings_list() -> None:
    """List the studies in settings/, and what each is for."""
    print("\n".join(describe_presets(Path.cwd())))


@settings_app.command("use")
def settings_use(
    name: Annotated[str, typer.Argument(help="a file in settings/")],
    force: Annotated[bool, typer.Option("--force", help="also over changes of your own")] = False,
) -> None:
    """Write a study of settings/ to params.yaml."""
    use_preset(Path.cwd(), name, force)


@settings_app.command("describe")
def settings_describe() -> None:
    """Print the reference of params.yaml, docs/params.md."""
    list_settings = import_module("knowledge_gaps.models.registry").list_settings
    describe_study = import_module("knowledge_gaps.study.describe").describe_study
    print(describe_study(list_settings()), end="")


def _run_stage(stage: str, *names: str, function: str = "run", **options: object) -> None:
    """Read the study, then import the stage: a wrong study is refused before torch is imported.

    The server that a stage's workers are forked from imports it at the same time.
    """
    if stage not in _IN_RANKS:
        check_alone(stage)
    root = Path.cwd()
    with require_unchanged(root, stage, *names):
        study = load_study(root / PARAMS_FILE)
        module = f"knowledge_gaps.stages.{stage}"
        # where there are GPUs, most of them work in this process
        if stage in _IN_WORKERS and not has_gpu_driver():
            start_fork_server([module, *_IN_WORKERS[stage]])
        run = getattr(import_module(module), function)
        run(root, study, *names, **options)


def _check_study(study: Study) -> None:
    import_module("knowledge_gaps.stages.check").check_study(Path.cwd(), study)


def _run_above(command: str, *arguments: object) -> None:
    """Read the study, then import what works above the stages."""
    check_alone(command)
    root = Path.cwd()
    study = load_study(root / PARAMS_FILE)
    import_module(f"knowledge_gaps.sweeps.{command}").run(root, study, *arguments)
