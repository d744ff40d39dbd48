"""grade: classes of submissions, what is asked for, formats that are always valid, bad input in one sentence."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest
from learners import LECTURE, engine

from tinygrad_edu import cli
from tinygrad_edu.testing import diagnose
from tinygrad_edu.testing.grade import process

TEXT = "import math\n" + LECTURE
PLUS = """
class Value:
    def __init__(self, data, operands=()):
        self.data, self.grad, self.operands = data, 0.0, operands

    def __add__(self, other):
        return Value(self.data + other.data, (self, other))

    def backward(self, grad=1.0):
        self.grad += grad
        for p in self.operands:
            p.backward(grad)
"""


def graded(*arguments: Any) -> int:
    return cli.main(["grade", *map(str, arguments)])


def notebook(path: Path, *cells: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


@pytest.fixture
def course(tmp_path: Path) -> Path:
    folder = tmp_path / "course"
    (folder / "ada").mkdir(parents=True)
    (folder / "ada" / "engine.py").write_text(TEXT.replace("1 - t**2", "1 - x**2"), encoding="utf-8")
    (folder / "ada" / "notes.py").write_text("print(1)\n", encoding="utf-8")
    (folder / "bob.py").write_text(TEXT, encoding="utf-8")
    (folder / "eve\x01.py").write_bytes(bytes(range(256)))
    return folder


# --- What is asked for ----------------------------------------------------------------------------------------
def test_what_is_missing_is_told_and_counts() -> None:
    scope: dict[str, Any] = {"__name__": "plus"}
    exec(PLUS, scope)
    report = diagnose(scope["Value"])
    assert not report.ok
    assert report.mistakes == []
    assert report.operations["a+b"] is True
    assert report.operations["a*b"] is False
    assert str(report).startswith("Value: no mistakes, 15 missing operations, 2 limits")
    with pytest.raises(AssertionError, match="missing operators: a-b, a\\*b"):
        report.check()
    assert diagnose(scope["Value"], require="+ backward").check().score({"+": 2, "*": 3, "backward": 5}) == 7
    with pytest.raises(ValueError, match="There is no operation 'tahn'"):
        diagnose(scope["Value"], require="tahn")


def test_what_always_fails_is_told_with_its_error(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "engine.py").write_text(LECTURE, encoding="utf-8")  # math is not imported
    assert graded(tmp_path / "engine.py") == 1
    assert "not yet fails, in exp(a), log(a), tanh(a), sigmoid(a): NameError" in capsys.readouterr().out
    scope: dict[str, Any] = {}
    exec(PLUS + "\n    def tanh(self):\n        raise NotImplementedError\n", scope)
    report = diagnose(scope["Value"], require="+ numbers tanh")
    assert report.mistakes == []
    assert report.notes[0] == "a+3 fails: AttributeError: 'int' object has no attribute 'data'"
    assert "tanh(a)" in report.missing


def test_an_engine_that_is_given_up_is_not_said_to_lack_anything() -> None:
    report = diagnose(engine("lecture", [("        topo = []\n", "        while True: pass\n")]), seconds=1)
    assert (report.missing, report.ok, report.score()) == ((), False, 0)
    assert "cannot be run: it took more than 1 seconds" in str(report)


def test_points_are_those_of_a_rubric(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "engine.py").write_text(TEXT.replace("1 - t**2", "1 - x**2"), encoding="utf-8")
    rubric = tmp_path / "rubric.toml"
    rubric.write_text('[points]\n"+" = 2\ntanh = 1.5\nbackward = 3\n', encoding="utf-8")
    page = tmp_path / "page.html"
    assert graded(tmp_path / "engine.py", "--points", rubric, "--format", "gradescope", "--html", page) == 1
    assert "<iframe" in page.read_text(encoding="utf-8")
    results = json.loads(capsys.readouterr().out)
    assert results["score"] == 5
    assert [(test["name"], test["score"]) for test in results["tests"]] == [("+", 2), ("tanh", 0), ("backward", 3)]
    assert "tanh' computed from the input" in results["tests"][1]["output"]


# --- Formats --------------------------------------------------------------------------------------------------
def test_a_class_in_every_format(course: Path, tmp_path: Path, capsys: Any) -> None:
    assert graded(course, "--json", "--html", tmp_path / "class.html") == 1
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [(each["submission"], each["ok"]) for each in told["submissions"]] == [
        ("ada", False),
        ("bob.py", True),
        ("eve\x01.py", False),
    ]
    assert told["summary"]["mistakes"]["tanh"]["count"] == 1
    assert "1  tanh&#x27; computed" in (tmp_path / "class.html").read_text(encoding="utf-8")
    graded(course, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["mistakes"] for row in rows] == ["tanh", "", ""]
    graded(course, "--format", "junit", "--jobs", 1)
    suites = ElementTree.fromstring(capsys.readouterr().out)
    assert [int(suite.attrib["failures"]) > 0 for suite in suites] == [True, False, False]
    graded(course)
    out, err = capsys.readouterr()
    assert ("1 of 3 have no mistake and nothing missing, 1 could not be graded" in out, err) == (True, "")


def test_odd_names_are_written_in_every_format(tmp_path: Path, capsys: Any) -> None:
    folder = os.fsencode(tmp_path) + b"/course"
    os.mkdir(folder)
    for name in (b"\xff<b>.py", b"new\nline.py"):
        Path(os.fsdecode(folder + b"/" + name)).write_text("raise ValueError('\\udcff \\x1b')\n", encoding="utf-8")
    for format, valid in (("json", json.loads), ("gradescope", json.loads), ("junit", ElementTree.fromstring)):
        assert graded(os.fsdecode(folder), "--format", format, "--html", tmp_path / "class.html") == 2
        assert len(valid(capsys.readouterr().out)) == 2
        assert "&lt;b&gt;" in (tmp_path / "class.html").read_text(encoding="utf-8")
    graded(os.fsdecode(folder))
    out = capsys.readouterr().out
    assert "new\\nline.py" in out
    assert "\x1b" not in out


def test_a_notebook(tmp_path: Path, capsys: Any) -> None:
    wrong = TEXT.replace("1 - t**2", "1 - x**2")
    path = notebook(
        tmp_path / "engine.ipynb", "%pip install x\nimport math", wrong, "1 / 0", "while True: pass", TEXT
    )
    assert graded(path) == 0
    out = capsys.readouterr().out
    assert "cell 3 fails: ZeroDivisionError" in out
    assert "cell 4 fails: TimeoutError" in out


def test_a_file_that_borrows(tmp_path: Path) -> None:
    (tmp_path / "engine.py").write_text("from tinygrad_edu.micrograd.engine import Value\n", encoding="utf-8")
    assert graded(tmp_path / "engine.py") == 1


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.py").write_bytes(b"\x00\xff")
    (tmp_path / "broken.py").write_text("def Value(:\n", encoding="utf-8")
    (tmp_path / "two.py").write_text(PLUS.replace("Value", "One") + PLUS.replace("Value", "Two"), encoding="utf-8")
    (tmp_path / "rubric.toml").write_text("tahn = 1\n", encoding="utf-8")
    (tmp_path / "none.toml").write_text("", encoding="utf-8")
    (tmp_path / "right.py").write_text(TEXT, encoding="utf-8")
    for arguments, words in (
        ([tmp_path / "empty"], "has no .py or .ipynb file"),
        ([tmp_path / "none.py"], "There is no file"),
        ([tmp_path / "broken.py"], "tinygrad-edu grade: SyntaxError: invalid syntax (broken.py, line 1)"),
        ([tmp_path / "binary.py"], "'binary.py' is not a text file"),
        ([tmp_path / "two.py"], "2 classes with a backward(), One, Two: call one of them Value"),
        ([notebook(tmp_path / "none.ipynb", "x = 1")], "no class with a method backward()"),
        ([tmp_path / "right.py", "--points", tmp_path / "rubric.toml"], "There is no operation 'tahn'"),
        ([tmp_path / "right.py", "--points", tmp_path / "none.toml"], "this one has none"),
    ):
        assert graded(*arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1


# --- Named right ----------------------------------------------------------------------------------------------
def test_a_fault_in_the_product_is_not_one_of_the_negative() -> None:
    report = diagnose(engine("composed", [("self.grad += other.data * out.grad", "self.grad += other.data")]))
    (mistake,) = report.mistakes
    assert (mistake.name, "-a" in mistake.operations) == ("upstream", False)


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(99)",
        "print('x' * 2**30)",
        "os.system('sleep NUMBER &'); time.sleep(99)",
        "[os.fork() for _ in iter(time.time, 0)]",
    ],
)
def test_an_engine_that_does_not_end_has_ten_seconds_with_its_children(code: str) -> None:
    sort = "        build_topo(self)\n"
    start, number = time.monotonic(), f"4321{os.getpid()}"  # other tests have other sleepers
    code = code.replace("NUMBER", number)
    report = diagnose(engine("lecture", [(sort, sort + f"        import os, time; {code}\n")]), seconds=2)
    assert not report.ok
    assert time.monotonic() - start < 30  # 2 on a quiet machine, where the limit is 10
    assert _sleeping(number) == []


def test_nothing_is_left_when_the_grader_is_killed(tmp_path: Path) -> None:
    engine = TEXT.replace("        topo = []\n", "        import os; os.system('sleep 4322')\n")
    (tmp_path / "engine.py").write_text(engine, encoding="utf-8")
    code = f"from tinygrad_edu.testing import diagnose; diagnose({str(tmp_path / 'engine.py')!r}, seconds=60)"
    grader = subprocess.Popen([sys.executable, "-c", code])
    for processes, kill in ((1, True), (0, False)):
        until = time.monotonic() + 60
        while len(_sleeping("4322")) != processes:
            assert time.monotonic() < until
            time.sleep(0.1)
        if kill:
            grader.kill()
            grader.wait()


def test_ctrl_c_ends_the_grading_of_a_class_without_tracebacks(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("import os; os.system('sleep 4323')", encoding="utf-8")
    command = (sys.executable, "-m", "tinygrad_edu", "grade", tmp_path)
    grader = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    while not _sleeping("4323") and grader.poll() is None:
        time.sleep(0.1)
    os.killpg(grader.pid, signal.SIGINT)
    assert grader.communicate(timeout=60)[1] == b"\nStopped by Ctrl-C.\n"


def test_the_end_of_an_engine_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_descendants", lambda: [2**30])  # as one that cannot be ended
    graded = process.EngineProcess(engine("lecture"), 60, 512)
    graded._connection.send([0])  # no program: its process ends
    graded._process.join(30)  # 3 on a quiet machine
    assert graded._process.exitcode == 1
    graded.close()


def _sleeping(seconds: str) -> list[bytes]:
    return subprocess.run(["pgrep", "-fx", f"sleep {seconds}"], capture_output=True, check=False).stdout.split()
