"""The layout: which folder may import which, no cycle between modules, and nothing loose at the top."""

import ast
import functools
import graphlib
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "tinygrad_edu"

# Each folder, and the folders that it may read.
READS = {
    "engine": "",
    "nn": "engine",
    "optim": "engine compiler",
    "datasets": "engine viz",
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


@functools.cache
def nodes(name: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))))


def imports(name: str) -> set[str]:
    """The modules of the package that a module imports, at the top, in a function or for its types."""
    targets = set()
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    for node in nodes(name):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            target = ".".join(part for part in base if part)
            for alias in node.names:
                inside = f"{target}.{alias.name}".removeprefix(".")
                targets.add(inside if inside in MODULES else target)
    return targets


@functools.cache
def graph() -> dict[str, set[str]]:
    return {name: imports(name) for name in MODULES}


def reads(folder: str, depth: int) -> set[str]:
    """What the modules of a folder read, by the parts of the names at this depth."""
    own = [name for name in MODULES if f"{name}.".startswith(f"{folder}.")]
    assert own
    targets = {target for name in own for target in graph()[name]}
    prefix = folder.rpartition(".")[0]
    return {target.split(".")[depth] for target in targets if target.startswith(prefix)}


def test_the_folders_are_listed_and_mirrored_and_little_lies_loose() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set(READS)
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert loose == {"__init__.py", "__init__.pyi", "__main__.py", "elementary.py", "py.typed"}
    tests = {path.parent.name for path in Path(__file__).parent.glob("*/test_*.py")}
    assert tests == set(READS)


ROOMS = ["trace", "find", "ir", "backends", "run"]  # of the compiler: none of them reads a later one


def test_imports_point_one_way() -> None:
    for folder, others in READS.items():
        assert reads(folder, 0) <= {folder, *others.split()}, folder
    for place, room in enumerate(ROOMS):
        assert reads(f"compiler.{room}", 1) <= set(ROOMS[: place + 1]), room
    products = {name.split(".")[1] for name in MODULES if name.startswith("testing.")}
    assert products == {"check", "proof", "grade"}
    for room in products:  # they read the checks and not each other
        assert reads(f"testing.{room}", 1) <= {"check", room}, room


def test_no_module_imports_the_package_itself() -> None:
    for module in MODULES:
        names = [alias.name for node in nodes(module) if isinstance(node, ast.Import) for alias in node.names]
        names += [
            node.module or "" for node in nodes(module) if isinstance(node, ast.ImportFrom) and not node.level
        ]
        assert not any(name.partition(".")[0] == "tinygrad_edu" for name in names), module


def test_no_module_imports_itself_by_way_of_others() -> None:
    order = list(graphlib.TopologicalSorter(graph()).static_order())  # raises CycleError, which shows the cycle
    assert set(order) == set(MODULES)


def test_no_two_modules_and_no_two_classes_have_one_name() -> None:
    """But for the drop-in, which has micrograd's names, and the public alias of `engine.elementary`."""
    own = [name for name in MODULES if name.partition(".")[0] != "micrograd"]
    classes = [node.name for name in own for node in nodes(name) if isinstance(node, ast.ClassDef)]
    files = [MODULES[name].name for name in own if MODULES[name].name != "__init__.py"]
    assert [name for name, n in Counter(classes + files).items() if n > 1] == []
