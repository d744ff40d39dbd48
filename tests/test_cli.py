"""The command line as its user meets it: in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tinygrad_edu import cli


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tinygrad_edu", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


@pytest.mark.parametrize("path", [None, ""], ids=["", "without dot"])
def test_the_demo(tmp_path: Path, path: str | None) -> None:
    result = run("demo", "--epochs", "1", "--out", str(tmp_path), **({} if path is None else {"PATH": path}))
    assert result.returncode == 0, result.stderr
    assert "y = 1.047" in result.stdout
    errors = [float(e) for e in re.findall(r"(\d\.\de-\d+)$", result.stdout, re.MULTILINE)]
    assert len(errors) == 3
    assert max(errors) < 1e-8
    accuracy = float(re.search(r"test accuracy ([\d.]+)% on 359 images", result.stdout)[1])
    assert 75 < accuracy < 100
    assert "1438/1438" in result.stderr  # the progress bar
    assert ElementTree.fromstring((tmp_path / "graph.svg").read_bytes()).tag.endswith("svg")
    assert (tmp_path / "graph.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--epochs", "0"], "takes a whole number of 1 or more, not '0'"),
        (["demo", "--epochs", "two"], "takes a whole number of 1 or more, not 'two'"),
        (["demo", "--out", "no/such/folder"], "there is no folder 'no/such/folder'"),
        (["dance"], "invalid choice: 'dance'"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_help_comes_at_once() -> None:
    assert "derive an expression" in run("--help").stdout


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tinygrad_edu", "demo", "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "epoch 1" not in (line := process.stderr.readline()) and line:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.rstrip().endswith("Stopped by Ctrl-C.")
    assert "Traceback" not in errors


def test_without_a_program_to_draw_with_the_demo_says_what_to_install(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("tinygrad_edu.viz.render._graphviz_pure", lambda: None)
    monkeypatch.setattr("tinygrad_edu.demo.train", lambda *arguments: None)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    assert "pip install graphviz-pure" in capsys.readouterr().err
