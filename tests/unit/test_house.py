"""The house: imports run one way, rooms and files keep their size, and what one place alone may do.

One test for the whole tree each; the message lists every offender.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src"
PACKAGE = SOURCE / "knowledge_gaps"

# from top to bottom; rooms of one line may not import one another
FLOORS = (
    ("__main__",),
    ("cli",),
    ("stages",),
    ("report",),
    ("findings",),
    ("analyses",),
    ("readings",),
    ("evaluation",),
    ("execution", "planning", "tracking"),
    ("training",),
    ("data", "models"),
    ("study",),
    ("losses", "statistics"),
    ("core",),
)
MOST_LINES, MOST_FILE_LINES, MOST_FUNCTION_LINES, MOST_SHARE = 18_900, 300, 60, 0.17
SERIALISERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
IDIOMS = re.compile(
    r"\b(stands? on|stood on|is known by|whoever|ledger|audience|crew)\b", re.IGNORECASE
)


@cache
def list_modules() -> dict[str, Path]:
    """List the package's modules by dotted name below it; "" is the package itself."""
    modules = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


@cache
def parse(module: str) -> ast.Module:
    return ast.parse(list_modules()[module].read_text(encoding="utf-8"))


def list_imports(node: ast.AST, in_function: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield what is imported, and whether that is in a function; not what is for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, in_function) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield from ((f"{child.module}.{alias.name}", in_function) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from list_imports(child, in_function or inside)


def test_imports_run_one_way() -> None:
    floor = {room: index for index, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for module in list_modules():
        room = module.partition(".")[0]
        for target, _ in list_imports(parse(module)):
            top, _, rest = target.partition(".")
            other = rest.partition(".")[0]
            if top != "knowledge_gaps" or other in ("", room, "__version__") or not room:
                continue
            if other not in floor or floor[room] >= floor[other]:
                wrong.append(f"{module} imports {target}")
    assert not wrong, "\n".join(wrong)
    assert {module.partition(".")[0] for module in list_modules()} - {""} == floor.keys()


def test_rooms_files_and_functions_keep_their_size() -> None:
    lines = {
        module: len(path.read_text(encoding="utf-8").splitlines())
        for module, path in list_modules().items()
    }
    total = sum(lines.values())
    assert total <= MOST_LINES
    assert {name: number for name, number in lines.items() if number > MOST_FILE_LINES} == {}
    rooms: Counter[str] = Counter()
    for module, number in lines.items():
        rooms[module.partition(".")[0]] += number
    assert {room: size for room, size in rooms.items() if size > MOST_SHARE * MOST_LINES} == {}
    sizes = {
        f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in list_modules()
        for node in ast.walk(parse(module))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert {name: size for name, size in sizes.items() if size > MOST_FUNCTION_LINES} == {}
    assert statistics.median(sizes.values()) <= 12


def test_libraries_stay_in_their_rooms() -> None:
    found: dict[str, set[tuple[str, bool]]] = defaultdict(set)  # of a library: room, in a function
    for module in list_modules():
        for target, in_function in list_imports(parse(module)):
            found[target.partition(".")[0]].add((module.partition(".")[0], in_function))
    assert found["mlflow"] == {("tracking", True)}
    assert {room for room, _ in found["yaml"] | found["ruamel"]} <= {
        "study",
        "planning",
        "tracking",
    }
    assert not found.keys() & SERIALISERS


def test_nothing_is_pickled_and_imports_have_no_effects() -> None:
    effects = (".register", ".add_typer", ".add_implicit_resolver", "main")
    for module in list_modules():
        for node in parse(module).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                assert ast.unparse(node.value.func).endswith(effects), module
        for call in ast.walk(parse(module)):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func)
            keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert name not in {"torch.save", "pd.read_pickle"}, module
            if name == "torch.load":  # weights that others published
                assert keywords.get("weights_only") == "True", module
            if name in {"np.load", "np.save"}:
                assert keywords.get("allow_pickle") == "False", module


def test_parents_and_trainings_stay_light() -> None:
    code = """
import sys
import knowledge_gaps.cli, knowledge_gaps.execution.cohort
assert "torch" not in sys.modules, "torch in a process that starts others"
import knowledge_gaps.training.instance, knowledge_gaps.tracking.live
tools = {"mlflow", "dvc", "torch_fidelity", "sklearn", "pandas", "matplotlib"} & set(sys.modules)
assert not tools, tools
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_of_modules_in_text_exist() -> None:
    """A docstring or a page that names a module or a file of the package names one that exists."""
    texts = [*PACKAGE.rglob("*.py"), *(REPOSITORY / "docs").glob("*.md"), REPOSITORY / "README.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in texts)
    for name in re.findall(r"`knowledge_gaps\.([\w.]+)`", text):
        parts = name.split(".")  # of a module, or of something in it
        parents = {".".join(parts[: len(parts) - count]) for count in range(3)} - {""}
        assert parents & list_modules().keys(), name
    paths = set(re.findall(r"src/knowledge_gaps/[\w./-]*\w", text))
    assert [name for name in paths if not (REPOSITORY / name).exists()] == []


def test_text_is_plain_english() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in {".py", ".j2"}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if IDIOMS.search(line)
    ]
    assert not found, "\n".join(found)
