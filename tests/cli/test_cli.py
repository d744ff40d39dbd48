"""The command line as its user meets it: in a process of its own."""

import contextlib
import functools
import importlib.metadata
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import cases
import pytest
from cases import python

from tinygrad_edu import RULES, cli, datasets, fit, nn, optim
from tinygrad_edu.cli import recipes
from tinygrad_edu.testing import rules_of
from tinygrad_edu.train.accuracy import is_right

run = functools.partial(cases.run, "-m", "tinygrad_edu")


@pytest.mark.slow
@pytest.mark.parametrize("path", [None, ""], ids=["", "without dot"])
def test_the_demo(tmp_path: Path, path: str | None) -> None:
    result = run("demo", "--epochs", "1", "--out", str(tmp_path), **({} if path is None else {"PATH": path}))
    assert result.returncode == 0, result.stderr
    assert "y = 1.047" in result.stdout
    assert len(re.findall(r"^[abc] .*  ok$", result.stdout, re.MULTILINE)) == 3  # of gradcheck
    accuracy = float(re.search(r"test accuracy ([\d.]+)% on 359 images", result.stdout)[1])
    assert 75 < accuracy < 100
    assert result.stdout.count(f"test accuracy {accuracy}% on 359 images") == 2  # on Values, and compiled
    assert "groups, 2 matrix products, compiled in " in result.stdout
    assert result.stderr == ""  # progress bars stay out of pipes
    assert ElementTree.fromstring((tmp_path / "graph.svg").read_bytes()).tag.endswith("svg")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


BAD_ARGUMENTS = [
    ("demo --epochs 0", "takes a whole number of 1 or more, not '0'"),
    ("demo --epochs two", "takes a whole number of 1 or more, not 'two'"),
    ("demo --out no/such/folder", "there is no folder 'no/such/folder'"),
    ("dance", "invalid choice: 'dance'"),
    ("train cifar", "invalid choice: 'cifar'"),
    ("train moons --epochs 0", "takes a whole number of 1 or more, not '0'"),
    ("train moons --save no/such/folder/m.json", "there is no folder 'no/such/folder'"),
    ("train moons --save .", "'.' is a folder; add the name of a file"),
    (f"train moons --epochs {'9' * 30}", "takes a whole number of 1 or more, at most 1,000,000, not '999"),
    ("train moons --seed -1", "takes a whole number of 0 or more, not '-1'"),
    ("rules tahn", "There is no operation 'tahn': did you mean tan"),
    ("rules foo", "There is no operation 'foo': the command `tinygrad-edu rules` lists all."),
    ("explain a.real a=2", "explain: a.real is not allowed: use names, numbers"),
    ("explain 'log(a)' a=0", "It cannot be computed: log(Value(data=0.0, grad=0.0, label='a')): it is"),
    ("explain '\udcff * x' x=2", "The expression has bytes that are not text."),
    ("explain x \udcff=2", "'\\udcff=2' gives no number to a name"),
    ("draw a*a a=2 -o graph.gif", "must end in one of .svg, .png, .pdf, .html"),
    ("draw a*a a=2 -o no/such/folder/graph.svg", "there is no folder 'no/such/folder'"),
    ("draw a*a a=2", "the following arguments are required: -o/--output"),
    ("draw a*a a=2 -o .", "'.' is a folder; add the name of a file"),
    ("live a*a a=2 -o page.svg", "must end in .html"),
]


@pytest.mark.parametrize(("line", "message"), BAD_ARGUMENTS, ids=[line[:30] for line, _ in BAD_ARGUMENTS])
def test_bad_arguments_are_one_line_and_exit_code_2(line, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(shlex.split(line))
    except SystemExit as error:
        status = error.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_help_comes_at_once() -> None:
    program = """
import sys
from tinygrad_edu.cli import main
try:
    main(["--help"])
finally:
    late = "numpy graphviz tinygrad_edu.viz.terminal tinygrad_edu.debug tinygrad_edu.nn"
    print({*late.split()} & {*sys.modules})
"""
    *text, late = python(program).splitlines()
    assert "derive an expression" in " ".join(text)
    assert late == "set()"


def test_version(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"tinygrad-edu {importlib.metadata.version('tinygrad-edu')}\n"


def test_alone_it_prints_its_help(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([]) == 0
    assert capsys.readouterr().out.startswith("usage: tinygrad-edu")
    assert list(tmp_path.iterdir()) == []


def test_rules_prints_the_table_or_one_rule(capsys) -> None:
    assert cli.main(["rules"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(RULES) + 2
    assert cli.main(["rules", "tanh"]) == 0
    assert "0.5 gives 0.4621" in capsys.readouterr().out


COMMANDS = ("demo", "train", "explain", "draw", "live", "step", "rules", "grade")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_a_usage_a_description_and_an_example_that_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    usage, description, *_ = text.split("\n\n")
    assert usage.startswith(f"usage: tinygrad-edu {command} [options]")
    assert description[0].isupper()
    assert description.endswith(".")
    assert command != "train" or f"one of {', '.join(recipes.TASKS)}" in " ".join(text.split())
    *_, example = text.partition("Example: tinygrad-edu ")
    if example and command != "step":
        assert cli.main(shlex.split(example)) == 0
        assert len(list(tmp_path.iterdir())) == (command in ("draw", "live"))


HELPS = [[], ["--help"], *([name, "--help"] for name in COMMANDS)]


@pytest.mark.parametrize("arguments", [*HELPS, ["explain", "tanh(a*b + c)", "a=2", "b=-3", "c=10"]], ids=" ".join)
def test_40_columns_are_enough(arguments: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with contextlib.suppress(SystemExit):
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert (max(map(len, out.splitlines())) <= 40, err) == (True, "")


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tinygrad_edu", "demo", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "every one a Value" not in (line := process.stdout.readline()) and line:
        pass
    time.sleep(0.5)  # it is training
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert errors.rstrip().endswith("Stopped by Ctrl-C.")
    assert "Traceback" not in errors


def test_without_a_program_to_draw_with_the_demo_says_what_to_install(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("tinygrad_edu.viz.render._graphviz_pure", lambda: None)
    monkeypatch.setattr("tinygrad_edu.cli.demo.train_digits", lambda *arguments: None)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    assert "pip install graphviz-pure" in capsys.readouterr().err


# --- Expressions --------------------------------------------------------------------------------------------
EXPLAINED = """\
a*b + c with a=2, b=-3, c=10

result = 4   grad 1   +
├─ -6   grad 1   *
│  ├─ a = 2   grad -3
│  └─ b = -3   grad 2
└─ c = 10   grad 1

One step per operation, from the result back to the inputs:

  1. result = #3 + c: #3 receives upstream = 1; #3.grad 0 -> 1; c receives upstream = 1; c.grad 0 -> 1
  2. #3 = a * b: a receives upstream * b = 1 * -3 = -3; a.grad 0 -> -3; b receives upstream * a = 1 * 2 = 2; \
b.grad 0 -> 2

The derivatives of the result:

  d/da = -3   at a = 2
  d/db = 2   at b = -3
  d/dc = 1   at c = 10

gradcheck of a*b + c, 3 inputs, recipe '50 digits'
"""


def test_explain_in_a_process_of_its_own() -> None:
    result = run("explain", "a*b + c", "a=2", "b=-3", "c=10")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(EXPLAINED)
    assert result.stdout.count("  ok") == 3
    result = run("explain", "λ*λ", "λ=2", PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert "d/d\\u03bb = 4" in result.stdout


@pytest.mark.parametrize(
    ("text", "given", "derivative"),
    [
        ("--x", "x=2", "d/dx = 1 "),
        ("-x**2", "x=3", "d/dx = -6   at x = 3"),
        ("-o*0.5", "o=2", "\n└─ 0.5   grad -2\n"),
        ("\u00b5*3", "\u03bc=2", "d/d\u03bc = 3 "),
    ],
)
def test_odd_names_and_signs(capsys, text: str, given: str, derivative: str) -> None:
    assert cli.main(["explain", text, given]) == 0
    assert derivative in capsys.readouterr().out
    if text[0] != "-":
        assert cli.main(["explain", given[0] + "*3", text[0] + "=2"]) == 0


def test_draw_to_the_standard_output_and_in_a_format_that_is_not_there(tmp_path: Path) -> None:
    result = run("draw", "-a*a", "a=2", "-o", "-")
    assert (result.returncode, result.stderr) == (0, "")
    assert ElementTree.fromstring(result.stdout).tag.endswith("svg")
    # graphviz-pure writes no pdf, a system dot does.
    result = run("draw", "a*a", "a=2", "-o", str(tmp_path / "g.pdf"))
    written = (tmp_path / "g.pdf").exists()
    assert result.returncode == (0 if written else 1)
    assert len(result.stderr.splitlines()) == (0 if written else 1)
    assert written or "install Graphviz" in result.stderr


def test_step_in_a_pipe() -> None:
    result = run("step", "a*b + a", "a=2", "b=3", input="n\ng 2\np tg.exp(0.0)\ndance\nq\nn\n")
    assert (result.returncode, result.stderr) == (0, "")
    headers = [line.split(" - ")[0] for line in result.stdout.splitlines() if line.startswith("step ")]
    assert headers == ["step 0 of 2", "step 1 of 2", "step 2 of 2"]
    assert "(tg) p tg.exp(0.0)\n1.0\n(tg) dance\n*** There is no command 'dance': h shows them." in result.stdout


@pytest.mark.parametrize(("name", "start"), [("g.svg", b"<?xml"), ("g.PNG", b"\x89PNG")])
def test_draw_into_a_file(tmp_path: Path, name: str, start: bytes, capsys) -> None:
    assert cli.main(["draw", "tanh(a*b)", "a=2", "b=-0.3", "-o", str(tmp_path / name)]) == 0
    assert capsys.readouterr() == (f"wrote {tmp_path / name}\n", "")
    assert (tmp_path / name).read_bytes().startswith(start)


def test_draw_without_the_graphviz_package(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    assert cli.main(["draw", "a*a", "a=2", "-o", str(tmp_path / "g.svg")]) == 0
    assert (tmp_path / "g.svg").read_bytes().startswith(b"<svg")
    assert cli.main(["draw", "a*a", "a=2", "-o", str(tmp_path / "g.png")]) == 2
    assert "Without Graphviz a picture is an SVG" in capsys.readouterr().err


# --- Training -----------------------------------------------------------------------------------------------
def test_train_iris_and_save_the_model(tmp_path: Path) -> None:
    result = run("train", "iris", "--seed", "1", "--save", str(tmp_path / "iris.json"))
    assert result.returncode == 0, result.stderr
    accuracy = float(re.search(r"test accuracy ([\d.]+)% on 50 examples", result.stdout)[1])
    assert accuracy >= 90
    assert "105 nodes -> 12 groups, 2 matrix products, compiled in " in result.stdout
    assert result.stderr == ""
    model = nn.load(tmp_path / "iris.json")
    data = datasets.iris(seed=1, standardize=True)
    examples = zip(data.X_test.tolist(), data.y_test.tolist(), strict=True)
    assert 2 * sum(is_right(model(x), t, False) for x, t in examples) == accuracy
    twin = nn.Sequential(nn.Dense(4, 8, "relu", rng=1), nn.Dense(8, 3, rng=2))
    fit(twin, nn.cross_entropy, data, optim.Adam(twin.parameters(), 0.02), 30, 10, seed=1, progress=False)
    assert model.state_dict() == pytest.approx(twin.state_dict())


def test_a_folder_without_rights_is_told_before_the_training(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    (tmp_path / "old.json").write_text("{}")
    for name, said in (("new.json", f"the folder '{tmp_path}' cannot be written to"), ("old.json", "the file ")):
        with pytest.raises(SystemExit) as caught:
            cli.main(["train", "moons", "--save", str(tmp_path / name)])
        assert caught.value.code == 2
        assert said in capsys.readouterr().err


def test_mnist_is_trained_in_float32(monkeypatch, capsys) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr(datasets, "mnist", datasets.digits)
    assert cli.main(["train", "mnist", "--epochs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "2 matrix products, compiled in " in printed
    assert float(re.search(r"test accuracy ([\d.]+)%", printed)[1]) > 80
    assert re.search(r"^[\d.]+ s in all$", printed, re.MULTILINE)


def test_mnist_without_data_or_network_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"no images")
    result = run("train", "mnist", TINYGRAD_EDU_DATA=str(tmp_path))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "train-images-idx3-ubyte" in result.stderr.splitlines()[-1]


def test_live_writes_a_page(tmp_path: Path, capsys) -> None:
    assert cli.main(["live", "tanh(a*b + c)", "a=2", "b=-3", "c=6.5", "-o", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().err == ""
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert '"mode":"live"' in page
    assert run("live", "a*a", "a=2", "-o", "-").stdout.startswith("<!doctype html>")


# --- check and prove: the rules of somebody's module ----------------------------------------------------------
MODULE = """
import tinygrad_edu as tg

@tg.rule(backward=lambda upstream, out, x: (upstream * 2 * x,))
def my_square(x):
    return x * x

@tg.rule(backward=lambda upstream, out, x: (upstream * x,))
def my_mistake(x):
    return x * x
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_rules.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    for name in ("my_square", "my_mistake"):
        monkeypatch.delitem(RULES, name, raising=False)
    monkeypatch.delitem(__import__("sys").modules, "their_rules", raising=False)
    return "their_rules"


def test_a_module_in_every_format(rules: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", f"{rules}:my_square"]) == 0
    assert "Rule('my_square') is right at" in capsys.readouterr().out
    assert cli.main(["check", rules, "--format", "json"]) == 1
    wrong, right = json.loads(capsys.readouterr().out)
    assert (wrong["rule"], wrong["ok"], right["rule"], right["ok"]) == ("my_mistake", False, "my_square", True)
    assert wrong["failures"][0]["kind"] == "wrong formula"
    assert cli.main(["check", rules, "--format", "junit"]) == 1
    suite = ElementTree.fromstring(capsys.readouterr().out)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert suite.find("testcase/failure").get("message") == "my_mistake: the slope for x is wrong"  # type: ignore[union-attr]  # it is there
    assert [rule.name for rule in rules_of(rules)] == ["my_mistake", "my_square"]


def test_prove(rules: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("flint")
    assert cli.main(["prove", f"{rules}:my_square", "relu"]) == 0
    assert "my_square: certified, value within 0.5 ulps" in capsys.readouterr().out
    assert cli.main(["prove", rules, "--format", "json"]) == 1
    wrong, right = json.loads(capsys.readouterr().out)
    assert wrong["error"].startswith("my_mistake is refuted: at 0.83 the slope for x is 0.82999")
    assert right["slope_ulps"] == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their_rules:other", "their_rules has no rule 'other': there are my_mistake, my_square."),
        ("nowhere:x", "'nowhere' cannot be imported: No module named 'nowhere'."),
        ("json", "json has no rule: there are none."),
        ("./their_rules.py", "'./their_rules.py' is no module: name it as an import does"),
    ],
)
def test_no_such_rule(rules: str, name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", name]) == 2
    assert message in capsys.readouterr().err
