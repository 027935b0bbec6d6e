"""The command line: parse, read the study, call one stage; no logic.

Exit codes: 0 done, 2 something that the user can mend (one line says what), 130 interrupted after
the state was saved.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.study import PARAMS_FILE, load_study
from knowledge_gaps.study.presets import list_presets, use_preset

_HELP = "Train GANs against GAN-classifiers, again and again. `dvc repro` calls the stages."

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
track_app = typer.Typer(help="MLflow as a view of the files.", no_args_is_help=True)
settings_app = typer.Typer(help="Studies that come with the project.", no_args_is_help=True)
app.add_typer(track_app, name="track")
app.add_typer(settings_app, name="settings")

Cohort = Annotated[str, typer.Argument(help="name of the cohort in params.yaml")]


def main() -> None:
    """Run the command line and turn the project's errors into exit codes."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"kgaps: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk under something that does not know UserError
        print(f"kgaps: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except (StoppedError, KeyboardInterrupt) as error:
        print(f"kgaps: interrupted {error}".rstrip(), file=sys.stderr)
        sys.exit(130)


@app.command()
def check() -> None:
    """Check params.yaml whole: keys, ranges, names, circles, architectures."""
    _run_stage("check")


@app.command()
def prepare() -> None:
    """Verify the reals and write data/prepared."""
    _run_stage("prepare")


@app.command()
def gans(cohort: Cohort) -> None:
    """Train the GANs of a cohort."""
    _run_stage("gans", cohort)


@app.command()
def classifiers(cohort: Cohort) -> None:
    """Train the GAN-classifiers of a cohort."""
    _run_stage("classifiers", cohort)


@app.command()
def pools(pool: Annotated[str, typer.Argument(help="name of the pool in params.yaml")]) -> None:
    """Write the manifest of a pool of frozen instances."""
    _run_stage("pools", pool)


@app.command()
def samples(cohort: Cohort) -> None:
    """Sample the generators of a GAN cohort for evaluation."""
    _run_stage("samples", cohort)


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


@track_app.command("sync")
def track_sync() -> None:
    """Rebuild MLflow's runs and registry from the files; nothing the second time."""
    _run_stage("track", function="sync")


@settings_app.command("list")
def settings_list() -> None:
    """List the studies in settings/."""
    print("\n".join(list_presets(Path.cwd())))


@settings_app.command("use")
def settings_use(name: Annotated[str, typer.Argument(help="a file in settings/")]) -> None:
    """Write a study of settings/ to params.yaml."""
    use_preset(Path.cwd(), name)


def _run_stage(stage: str, *names: str, function: str = "run") -> None:
    """Read the study, then import the stage: a wrong study is refused before torch is imported."""
    root = Path.cwd()
    study = load_study(root / PARAMS_FILE)
    getattr(import_module(f"knowledge_gaps.stages.{stage}"), function)(root, study, *names)
