"""The course kit: a zip for Gradescope, a test for otter, a cell for nbgrader, with the points of a rubric."""

import json
import zipfile
from pathlib import Path

from .rubric import DEFAULT, Rubric, read_points

SETUP = """#!/usr/bin/env bash
set -e
apt-get update && apt-get install -y python3-pip
pip3 install "tinygrad-edu[testing]"
"""
RUN = """#!/usr/bin/env bash
root="${AUTOGRADER:-/autograder}"
mkdir -p "$root/results"
python3 "$root/source/grade.py" "$root/submission" > "$root/results/results.json"
"""
GRADE = """import sys
from pathlib import Path

from tinygrad_edu.testing.grade.formats import written
from tinygrad_edu.testing.grade.submissions import grade_one, of_folder

POINTS = {points}
print(written([grade_one(of_folder(Path(sys.argv[1])), tuple(POINTS))], "gradescope", POINTS))
"""
OTTER = """from otter.test_files import test_case

from tinygrad_edu.testing import diagnose

OK_FORMAT = False
name = "engine"
POINTS = {points}
reports = {{}}


def holds(Value, item):
    report = reports[Value] = reports.get(Value) or diagnose(Value, require=POINTS)
    assert report.earned({{item: 1}})[item], report

{tests}"""
OTTER_TEST = """
@test_case(points={points}, name={item!r})
def test_{number}(Value):
    holds(Value, {item!r})

"""
NBGRADER = """from tinygrad_edu.testing import diagnose

POINTS = {points}
report = diagnose(Value, require=POINTS)
print(report)
report.score(POINTS)  # the last line is a number: nbgrader takes it as the points of this cell
"""


def write(folder: Path, rubric: Rubric | None = None) -> list[Path]:
    """Write autograder.zip, otter_engine.py and nbgrader_cell.py. Returns their paths.

    Raises ValueError for a rubric that cannot be read, OSError if a file cannot be written.
    """
    points = read_points(rubric if rubric is not None else dict.fromkeys(DEFAULT, 1))
    text, items = json.dumps(points), enumerate(points.items(), start=1)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("autograder.zip", "otter_engine.py", "nbgrader_cell.py")]
    with zipfile.ZipFile(paths[0], "w") as archive:
        files = {"setup.sh": SETUP, "run_autograder": RUN, "grade.py": GRADE.format(points=text)}
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16  # Gradescope runs it
            archive.writestr(entry, content)
    tests = "".join(OTTER_TEST.format(points=p, item=item, number=number) for number, (item, p) in items)
    paths[1].write_text(OTTER.format(points=text, tests=tests), encoding="utf-8")
    paths[2].write_text(NBGRADER.format(points=text), encoding="utf-8")
    return paths
