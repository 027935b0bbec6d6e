"""The command line: parse, read the study, call one stage; no logic.

Exit codes: 0 done, 1 (of `verdicts`) some are others, 2 something that the user can mend (one line
says what), 130 interrupted after the state was saved.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from knowledge_gaps import __version__
from knowledge_gaps.core.devices import check_alone, clean_environment
from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import VERDICTS_FILE, get_reports
from knowledge_gaps.study import PARAMS_FILE, Kind, Study, load_study
from knowledge_gaps.study.graph import find_recipe
from knowledge_gaps.study.load import describe_keys, list_studies, use_study

_HELP = "Train GANs against GAN-classifiers, again and again. `dvc repro` calls the stages."
_SETTINGS_HELP = "Studies that come with the project, and the keys of any study."

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
track_app = typer.Typer(help="MLflow as a view of the files.", no_args_is_help=True)
settings_app = typer.Typer(help=_SETTINGS_HELP, no_args_is_help=True)
app.add_typer(track_app, name="track")
app.add_typer(settings_app, name="settings")

# stages without arguments
_STAGES = {
    "check": "Check params.yaml, from its keys to its networks, and record the code that trains.",
    "prepare": "Verify the reals and write data/prepared.",
    "samples": "Sample every generator for evaluation.",
    "detections": "Let every classifier score every generator.",
    "perturbations": "Ask fooled classifiers again, on perturbed images.",
    "controls": "Change images until fooled classifiers take them for reals, training nothing.",
    "quality": "Measure the quality of every generator's images.",
    "judges": "Train detectors that take part in no loss, and let them score every generator.",
    "spectra": "Measure spectra and residuals of reals and of every generator's images.",
    "attributions": "Ask classifiers in the loss and held-out ones which pixels they look at.",
    "audit": "Ask whether classifiers could see how images are stored instead of what they show.",
    "agreement": "Compare classifiers of one cohort by their errors and their features.",
}
# stages that torchrun may start in several processes
_COHORTS = {
    "gans": "Train the GANs of a cohort.",
    "classifiers": "Train the GAN-classifiers of a cohort.",
}
_READS_REPORT = ("check", "agreement", "attributions", "controls", "report")
_NO_STAGES = ("plan", "track")  # DVC records no params of these


def main() -> None:
    """Run the command line and turn the project's errors into exit codes."""
    clean_environment()
    try:
        app(standalone_mode=True)
    except UserError as error:
        _end(2, str(error))
    except OSError as error:  # a full disk under something that does not know UserError
        _end(2, f"{error.filename or 'file'}: {error.strerror or error}")
    except StoppedError as error:  # Ctrl-C elsewhere is typer's, which ends with 130 as well
        _end(130, f"interrupted: {error}")


def _end(code: int, text: str) -> NoReturn:
    print(f"kgaps: {text}".rstrip(), file=sys.stderr)
    sys.exit(code)


def _run(
    command: str, *names: str, module: str = "", function: str = "run", **options: object
) -> None:
    """Read the study, then import what runs: a wrong study is refused before torch is imported.

    A result is refused if its params were edited meanwhile: DVC records them when a stage has
    ended, so its lock would hold settings by which nothing was trained.
    """
    if command not in _COHORTS:
        check_alone(command)
    root = Path.cwd()
    study = load_study(root / PARAMS_FILE)
    run = getattr(import_module(f"knowledge_gaps.{module or f'stages.{command}'}"), function)
    run(root, study, *names, **options)
    if command in _NO_STAGES:
        return
    later = load_study(root / PARAMS_FILE)
    if _select(later, command, *names) != _select(study, command, *names):
        shown = " ".join([command, *names])
        raise UserError(f"{PARAMS_FILE}: changed while {shown} ran; run it again")


def _select(study: Study, command: str, name: str = "") -> object:
    """Select what a stage depends on: of a cohort its own entries, else at most the whole study."""
    if command == "prepare":
        return study.data, study.evaluation
    if command not in _COHORTS:
        return study.model_dump(exclude=set() if command in _READS_REPORT else {"report"})
    cohort = getattr(study, command).get(name)
    return (
        study.study.seed,
        study.study.chains,
        cohort,
        cohort and find_recipe(study, f"{command}/{name}"),
    )


def _make_stage(stage: str) -> Callable[[], None]:
    return lambda: _run(stage)


def _make_training(kind: str) -> Callable[..., None]:
    def train(
        cohort: Annotated[str, typer.Argument(help="name of the cohort in params.yaml")],
        num_processes: Annotated[
            int | None, typer.Option(min=1, help="processes that train one instance together")
        ] = None,
        instance: Annotated[
            str | None,
            typer.Option(
                metavar="CHAIN/K", help="train this instance alone, for the cohort to take up"
            ),
        ] = None,
    ) -> None:
        one = None if instance is None else Instance.parse(instance, "--instance")
        chosen: dict[str, object] = {"num_processes": num_processes, "instance": one}
        _run(kind, cohort, module="stages.cohort", function="run", kind=Kind(kind), **chosen)

    return train


for _stage, _help in _STAGES.items():
    app.command(_stage, help=_help)(_make_stage(_stage))
for _kind, _help in _COHORTS.items():
    app.command(_kind, help=_help)(_make_training(_kind))


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
def pools(pool: Annotated[str, typer.Argument(help="name of the pool in params.yaml")]) -> None:
    """Write the manifest of a pool of frozen instances."""
    _run("pools", pool)


@app.command()
def report() -> None:
    """Write the report."""
    _run("report", module="report.build", function="build_report")
    _run("track", module="tracking.sync", function="sync_experiment")


@app.command()
def plan(
    probe: Annotated[bool, typer.Option(help="time some steps of every distinct training")] = True,
    json: Annotated[bool, typer.Option("--json", help="print JSON, in bytes and seconds")] = False,
    pilot_chains: Annotated[
        int | None, typer.Option(help="print how wide intervals will be, by so many chains so far")
    ] = None,
) -> None:
    """Print what the study costs on this machine: trainings, time, disk, what is finished."""
    if pilot_chains is not None:
        _run("plan", module="findings.power", pilot_chains=pilot_chains)
        return
    _run("check", function="check_study")  # before some of its steps are timed
    _run("plan", module="planning.plan", with_timing=probe, as_json=json)


@app.command()
def sweep(
    axes: Annotated[list[str], typer.Argument(metavar="KEY=V1,V2,...", help="of params.yaml")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print the grid")] = False,
) -> None:
    """Run the study for every combination of values, each as an experiment of DVC."""
    check_alone("sweep")
    root = Path.cwd()
    check = partial(import_module("knowledge_gaps.stages.check").check_study, root)
    run = import_module("knowledge_gaps.planning.sweep").run
    run(root, load_study(root / PARAMS_FILE), axes, check, dry_run)


@app.command()
def verdicts(
    before: Annotated[Path, typer.Argument(help="verdicts.json of a study")],
    after: Annotated[
        Path | None, typer.Argument(help="of another one; by default that of params.yaml")
    ] = None,
) -> None:
    """Say which claims have another verdict in another study; exit code 1 if there are any.

    A claim that only one of them was asked has no other verdict.
    """
    module = import_module("knowledge_gaps.findings.changes")
    if after is None:
        study = load_study(Path.cwd() / PARAMS_FILE).study.name
        after = get_reports(Path.cwd(), study) / VERDICTS_FILE
    changes = module.list_changes(module.read_verdicts(before), module.read_verdicts(after))
    print(module.render(changes))
    raise typer.Exit(int(any(change.kind is module.ChangeKind.OTHER for change in changes)))


@track_app.command("sync")
def track_sync() -> None:
    """Rebuild MLflow's runs and registry from the files; nothing the second time."""
    _run("track", module="tracking.sync", function="sync")


@settings_app.command("list")
def settings_list() -> None:
    """List the studies in settings/, and what each is for."""
    purposes = list_studies(Path.cwd())
    width = max(map(len, purposes), default=0)
    for name, purpose in purposes.items():
        print(f"{name:{width}}  {purpose}".rstrip())


@settings_app.command("use")
def settings_use(
    name: Annotated[str, typer.Argument(help="a file in settings/")],
    force: Annotated[bool, typer.Option("--force", help="also over changes of your own")] = False,
) -> None:
    """Write a study of settings/ to params.yaml."""
    use_study(Path.cwd(), name, force)


@settings_app.command("describe")
def settings_describe() -> None:
    """Print the reference of params.yaml, docs/params.md."""
    print(describe_keys(import_module("knowledge_gaps.models.registry").list_settings()), end="")
