"""Reading params.yaml, the only place that does; every fault of it is an error of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from knowledge_gaps.core.errors import UserError, describe_first_error
from knowledge_gaps.study.graph import check_graph
from knowledge_gaps.study.schema import Study

PARAMS_FILE = "params.yaml"


def load_study(path: Path) -> Study:
    """Read a study and check it whole: keys, types, ranges and references.

    Raises UserError one line that names the file, the key, what was found and what is allowed.
    """
    return validate_study(read_yaml(path), path.name)


def validate_study(content: Any, name: str) -> Study:
    """Check the content of a params.yaml, called `name` in errors; raises as `load_study`."""
    try:
        study = Study.model_validate(content)
        check_graph(study)
    except ValidationError as error:
        raise UserError(f"{name}: {describe_first_error(error, Study)}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return study


def read_yaml(path: Path) -> Any:
    """Read YAML 1.2 by the parser that DVC reads params.yaml with; a key may stand only once.

    Raises UserError when the file cannot be read or is not valid YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; kgaps runs in the repository's root") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path.name}: not valid YAML: {error}") from error
    return parse_yaml(text, path.name)


def parse_yaml(text: str, name: str) -> Any:
    """Parse the text of a YAML file of some name; raises UserError when it is not valid."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise UserError(f"{name}{where}: not valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise UserError(f"{name}: nested too deeply") from error
    except (YAMLError, ValueError) as error:
        raise UserError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
