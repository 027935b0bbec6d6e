"""Reading params.yaml, the only place that does, and saying in one line what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from knowledge_gaps.runtime.errors import UserError, describe_first_error
from knowledge_gaps.study.graph import check_graph
from knowledge_gaps.study.schema import Study

PARAMS_FILE = "params.yaml"


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key written twice, and reads 1e-3 as the number that it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"key {key!r} stands twice in the mapping of line {line}")
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 takes 1e-3 for a word; DVC reads YAML 1.2, where it is a number. Both must agree.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"),
    list("-+0123456789."),
)


def load_study(path: Path) -> Study:
    """Read a study and check it whole: keys, types, ranges, and what stands on what.

    Args:
        path: a params.yaml.

    Raises:
        UserError: one line that names the file, the key, what was found and what is allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path.name}: {describe_first_error(error, Study)}") from error
    check_graph(study)
    return study
