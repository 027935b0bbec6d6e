"""Reading findings.yaml, the only place that does, and saying in one line what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from knowledge_gaps.report.findings.schema import Findings
from knowledge_gaps.runtime.errors import UserError, describe_first_error

FINDINGS_FILE = "findings.yaml"


def load_findings(path: Path) -> Findings:
    """Read the claims and their thresholds.

    Args:
        path: a findings.yaml.

    Raises:
        UserError: one line that names the file, the key, what was found and what is allowed.
    """
    try:
        return Findings.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path.name}: {describe_first_error(error, Findings)}") from error


def _read_yaml(path: Path) -> Any:
    """Read YAML 1.2 as params.yaml is read: a key may stand only once."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path.name}: not valid YAML: {' '.join(str(error).split())}") from error
