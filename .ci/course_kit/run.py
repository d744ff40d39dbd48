"""The course kit on ten engines: Gradescope's zip, otter's test and nbgrader's cell give the same partial credit.

Run by .ci/run, in an environment with otter-grader and nbgrader: python run.py FOLDER-OF-THE-TESTS
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import nbclient
import nbformat
from nbgrader.utils import determine_grade
from otter.test_files import ExceptionTestFile

sys.path.insert(0, sys.argv[1])
from learners import LECTURE, MUTANTS

from tinygrad_edu.testing.grade import kit

POINTS = {"+": 1, "*": 2, "**": 1, "-": 1, "/": 1, "neg": 1, "tanh": 1, "backward": 3}
CLASS = "import math\n" + LECTURE
TITLES = (
    "assigns in *",
    "breadth first",
    "not reversed",
    "forgets upstream in tanh",
    "wrong sign in /",
    "no exponent",
    "tanh' of the input",
    "root not set",
    "equal numbers",
)


def engines() -> dict[str, str]:
    """The right one, and nine with a mistake."""
    texts = {"right": CLASS}
    for title, engine, replacements, _ in MUTANTS:
        if title in TITLES and engine == "lecture":
            texts[title] = CLASS
            for old, new in replacements:
                texts[title] = texts[title].replace(old, new)
    return texts


def gradescope(archive: Path, text: str) -> float:
    """What the zip's run_autograder writes for one submission."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        zipfile.ZipFile(archive).extractall(root / "source")
        (root / "submission").mkdir()
        (root / "submission" / "engine.py").write_text(text, encoding="utf-8")
        environment = {
            **os.environ,
            "AUTOGRADER": folder,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        subprocess.run(["bash", root / "source" / "run_autograder"], check=True, env=environment)
        results = json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))
        assert results["score"] == sum(test["score"] for test in results["tests"])
        return results["score"]


def otter(test: Path, text: str) -> float:
    """The points of otter's test file for a notebook that defines the class."""
    scope: dict[str, object] = {"__name__": "student"}
    exec(text, scope)
    file = ExceptionTestFile.from_file(str(test))
    file.run(scope)
    return sum(case.test_case.points for case in file.test_case_results if case.passed)


def nbgrader(cell: str, text: str) -> float:
    """The points that nbgrader reads from the output of its cell, in an executed notebook."""
    graded = {"nbgrader": {"grade": True, "solution": False, "points": sum(POINTS.values()), "grade_id": "engine"}}
    cells = [nbformat.v4.new_code_cell(text), nbformat.v4.new_code_cell(cell, metadata=graded)]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    return determine_grade(book.cells[1])[0]


with tempfile.TemporaryDirectory() as made:
    archive, test, cell = kit.write(Path(made), POINTS)
    best = sum(POINTS.values())
    texts = engines()
    assert len(texts) == 10, list(texts)
    for title, text in texts.items():
        scores = gradescope(archive, text), otter(test, text), nbgrader(cell.read_text(encoding="utf-8"), text)
        print(f"{title:28} {scores}", flush=True)
        assert len(set(scores)) == 1, "the three do not agree"
        assert (scores[0] == best) == (title == "right"), f"of {best}"
