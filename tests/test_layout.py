"""The layout: which folder may import which, no cycle between modules, and nothing loose at the top."""

import ast
import graphlib
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tinygrad_edu"

# Each folder, and the folders that it may read.
READS = {
    "engine": "",
    "nn": "engine",
    "optim": "engine compiler",
    "datasets": "engine",
    "viz": "engine",
    "micrograd": "engine viz",
    "compiler": "engine viz",
    "page": "engine viz compiler",
    "debug": "engine viz page",
    "train": "engine nn optim datasets viz compiler debug",
    "testing": "engine nn datasets viz compiler debug page",
    "cli": "engine nn optim datasets viz compiler page debug train testing",
}


def modules() -> dict[str, Path]:
    """Every module by its name below the package; a package by the name of its folder."""
    paths = (path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path for path in paths
    }


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules of the package that a module imports, at the top, in a function or for its types."""
    path, found = MODULES[name], set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            target = ".".join(part for part in base if part)
            for alias in node.names:
                inside = f"{target}.{alias.name}".removeprefix(".")
                found.add(inside if inside in MODULES else target)
    return found


GRAPH = {name: imports(name) for name in MODULES}


def test_the_folders_are_listed_and_mirrored_and_little_lies_loose() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set(READS)
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert loose == {"__init__.py", "__init__.pyi", "__main__.py", "elementary.py", "py.typed"}
    tests = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")}
    assert tests == set(READS)


ROOMS = ["trace", "find", "ir", "backends", "run"]  # of the compiler: none of them reads a later one


@pytest.mark.parametrize("place", range(len(ROOMS)))
def test_in_the_compiler_no_room_reads_a_later_one(place: int) -> None:
    own = [name for name in GRAPH if name.startswith(f"compiler.{ROOMS[place]}")]
    read = {target.split(".")[1] for name in own for target in GRAPH[name] if target.startswith("compiler.")}
    assert own
    assert read <= set(ROOMS[: place + 1])


@pytest.mark.parametrize("folder", READS)
def test_imports_point_one_way(folder: str) -> None:
    own = [name for name in GRAPH if name.partition(".")[0] == folder]
    read = {target.partition(".")[0] for name in own for target in GRAPH[name]}
    assert read - {folder} <= set(READS[folder].split())


def test_in_testing_the_products_read_the_checks_and_not_each_other() -> None:
    reads = {"check": {"check"}, "proof": {"proof", "check"}, "grade": {"grade", "check"}}
    for name in (name for name in GRAPH if name.startswith("testing.")):
        room = name.split(".")[1]
        assert {target.split(".")[1] for target in GRAPH[name] if target.startswith("testing.")} <= reads[room]


def test_no_module_imports_the_package_itself() -> None:
    for path in MODULES.values():
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
        assert not any(name.partition(".")[0] == "tinygrad_edu" for name in names), path


def test_no_module_imports_itself_by_way_of_others() -> None:
    order = list(graphlib.TopologicalSorter(GRAPH).static_order())  # raises CycleError, which shows the cycle
    assert set(order) == set(MODULES)


def test_no_two_modules_and_no_two_classes_have_one_name() -> None:
    """But for the drop-in, which has micrograd's names, and the public alias of `engine.elementary`."""
    own = {name: path for name, path in MODULES.items() if name.partition(".")[0] != "micrograd"}
    classes = [
        node.name
        for path in own.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    files = [path.name for path in own.values() if path.name != "__init__.py"]
    assert [name for name, n in Counter(classes + files).items() if n > 1] == []
