"""The stepping prompt: its commands, a pseudo-terminal in every Python at hand and in IPython, and a pipe."""

import functools
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import graphs
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.debug import run
from tinygrad_edu.debug.machine import Machine
from tinygrad_edu.debug.prompt import Prompt

ROOT = Path(__file__).parents[2]


def neuron():
    """y = tanh(a * b + c)"""
    a, b, c = graphs.labelled(a=0.5, b=-3.0, c=1.7)
    return graphs.named((a * b + c).tanh(), "y")


@pytest.fixture
def told(capsys):
    """What the prompt prints for these commands, after the first frame."""

    def session(root, *commands, **numbers):
        run(root, *commands, **numbers)
        return "".join(capsys.readouterr().out.partition("(tg) ")[1:])

    return session


def test_a_reader_that_has_seen_enough():
    read, write = os.pipe()
    os.close(read)
    program = "import sys, tinygrad_edu as tg; tg.debug.run(tg.Value(2.0) * 3, 'n'); print('on', file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "on\n")


def test_enter_repeats_and_is_n_at_first(capsys):
    run(neuron(), "", "", "b", "")
    headers = re.findall(r"^step (\d)", capsys.readouterr().out, re.M)
    assert headers == ["0", "1", "2", "1", "0"]


SESSIONS = (Path(__file__).parent / "sessions.txt").read_text(encoding="utf-8").split("\n=====\n")
W, V, ZERO = Value(2.0, label="w"), Value(3.0, label="w"), Value(0.0, label="x")
GRAPHS = {
    "neuron": neuron,
    "a neuron with names": graphs.neuron,
    "network": lambda: (nn.MLP(1, [2, 1], "tanh", rng=0)([0.5]) - 1.0) ** 2,
    "two of one name": lambda: W * V + W,
    "nan": lambda: (ZERO.sqrt() * 0.0) + ZERO,
    "inf": lambda: ZERO.exp() * (ZERO + 1000).exp(),
    "exploding": lambda: functools.reduce(lambda y, _: y * 30.0, range(8), Value(30.0, label="w")),
}


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.splitlines()[0])
def test_a_session(told, session):
    """The first line names the session and its graph; `...` stands for lines that another session shows."""
    title, _, expected = session.strip().partition("\n(tg) ")
    blocks = expected.split("\n(tg) ")
    commands = [block.partition("\n")[0] for block in blocks]
    shown = told(GRAPHS[title.partition(": ")[2]](), *commands).strip()
    for block, got in zip(blocks, shown.removeprefix("(tg) ").split("\n(tg) "), strict=True):
        begin, left_out, end = block.partition("\n...")
        assert (got.startswith(begin + "\n") and got.endswith(end)) if left_out else got == block, got


@pytest.mark.parametrize("leave", ["q", "p 1 ;; q", "quit()", "exit()"])
def test_what_comes_after_the_end_is_not_run(told, leave):
    assert "p 2" not in told(neuron(), leave, "p 2")


def test_help_names_every_command(told):
    shown = told(neuron(), "h")
    for name in dir(Prompt):
        word = name.removeprefix("do_")
        others = ("EOF", "exit", "help", "h", "display", "undisplay", "pp", "cl", "unt")
        if name.startswith("do_") and word not in others and len(word) > 1:
            assert word in shown.replace("(", "").replace(")", ""), word
            assert getattr(Prompt, name).__doc__


def test_a_function_has_local_names_and_source_lines(told):
    def f(a, b):
        product = a * b
        return product.tanh()

    assert "      product = a * b" in told(f, "p", a=2.0, b=0.5)

    def f(a, b):
        d = a * b
        return d.tanh()  # the last

    shown = told(f, "w", "n", "n", "w", "p a.label", a=2.0, b=-3.0)
    assert re.search(r"test_prompt\.py:\d+: return d\.tanh\(\)  # the last\n", shown)
    assert re.search(r"test_prompt\.py:\d+: d = a \* b\n", shown)
    assert shown.splitlines()[-1] == "'a'"


def test_ctrl_c_shows_how_far_continue_came(monkeypatch, capsys):
    taken = Machine.next

    def interrupted(machine):
        if machine.position == 2:
            raise KeyboardInterrupt
        return taken(machine)

    monkeypatch.setattr(Machine, "next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(neuron(), "c")
    assert "2 steps\nstep 2 of 3\n" in capsys.readouterr().out


def test_a_stream_of_ascii_gets_escapes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    run(Value(2.0, label="λ") * 3, "n", "why λ", "no λ")
    assert stream.buffer.getvalue().count(rb"\u03bb") > 5


def test_variables_of_the_caller_are_names(capsys, tmp_path):
    weight = Value(2.0)
    run(weight * 3, f"draw {tmp_path / 'y.svg'}", "why weight", "p capsys is None or weight.data + 0.5")
    assert ">weight<" in (tmp_path / "y.svg").read_text(encoding="utf-8")
    out = capsys.readouterr().out
    assert "d(#2)/d(weight)" in out
    assert out.splitlines()[-1] == "2.5"


def test_draw_and_live_write_files(told, tmp_path):
    picture, page = tmp_path / "y.svg", tmp_path / "y.html"
    assert f"wrote {picture}" in told(neuron(), f"draw {picture}", f"live {page}")
    assert picture.read_text(encoding="utf-8").count("<svg") == 1
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert re.search(r"wrote .*live\.html", told(neuron(), "live"))


def test_an_error_of_a_rule_is_told_with_its_node(told):
    broken = tg.rule(lambda x: x, backward=lambda upstream, out, x: upstream, name="broken")
    shown = told(broken(Value(1.0, label="x")), "n", "p x.data")
    assert "*** TypeError: backward of broken must return 1 share(s)" in shown
    assert "    The chain rule had come to" in shown
    assert shown.splitlines()[-1] == "1.0"


NAMED = [shutil.which(f"python3.{minor}") or "" for minor in range(11, 16)]
BESIDE = Path(sys.base_prefix).parent.glob("3.1[1-9].*/bin/python")  # as pyenv keeps them
PYTHONS = sorted(
    {
        path.resolve()
        for path in [Path(sys.executable), *map(Path, NAMED), *BESIDE]
        if path.is_file() and "shims" not in path.parts
    }
)
LOSS = "import tinygrad_edu as tg; w = tg.Value(3.0, label='weight'); y = (w * 2).tanh()"


def terminal(command, arguments, prompt, monkeypatch, colour):
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals for pexpect")
    pexpect = pytest.importorskip("pexpect")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    child = pexpect.spawn(str(command), arguments, timeout=300, encoding="utf-8", dimensions=(60, 140))
    child.expect(prompt)
    return child


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
@pytest.mark.parametrize("colour", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_repl_of_python(python, colour, monkeypatch):
    child = terminal(python, ["-q"], ">>> ", monkeypatch, colour)
    child.sendline(LOSS)
    child.expect(">>> ")
    child.sendline("tg.debug.run(y)")
    child.expect("step 0 of 2")
    child.expect(r"\(tg\) ")
    child.send("p wei\t")
    child.expect("ght")
    child.send(".data\r")
    child.expect("3.0")
    child.expect(r"\(tg\) ")
    child.send("n\r")
    child.expect(r"2.458e-05 \*")
    child.expect(r"\(tg\) ")
    child.send("\r")
    child.expect("step 2 of 2")
    child.expect(r"\(tg\) ")
    assert ("\x1b[32m" in child.before) is colour
    child.send("\x04")
    child.expect(">>> ")
    child.sendline("m = tg.debug.Machine(y)")
    child.expect(">>> ")
    child.sendline("m.n().b().g('weight') if 0 else m.until('weight')")
    child.expect("step 2 of 2 - the end")
    child.close(force=True)


def test_ipython(monkeypatch, tmp_path):
    pytest.importorskip("IPython")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    options = ["-m", "IPython", "--simple-prompt", "--no-banner"]
    child = terminal(sys.executable, options, r"In \[1\]: ", monkeypatch, False)
    child.sendline(LOSS)
    child.expect(r"In \[2\]: ")
    child.sendline("tg.debug.run(y)")
    child.expect(r"\(tg\) ")
    child.sendline("n")
    child.expect("step 1 of 2")
    child.expect(r"\(tg\) ")
    child.sendline("q")
    child.expect(r"In \[3\]: ")
    child.close(force=True)


@pytest.mark.parametrize("without", ["", "import sys; sys.modules['readline'] = None; "])
def test_a_pipe_shows_what_was_typed_also_without_readline(without):
    code = f"{without}{LOSS}; tg.debug.run(y)"
    result = cases.run("-c", code, input="n\n\np weight.grad\n", PYTHONPATH=str(ROOT))
    assert (result.returncode, result.stderr) == (0, "")
    assert re.findall(r"^(\(tg\).*|step \d)", result.stdout, re.M) == [
        "step 0", "(tg) n", "step 1", "(tg) ", "step 2", "(tg) p weight.grad", "(tg) ",
    ]  # fmt: skip


def test_a_notebook_without_a_keyboard_says_what_to_do(monkeypatch, capsys):
    def no_input(prompt=""):
        raise NotImplementedError("raw_input was called, but this frontend does not support input requests.")

    monkeypatch.setattr("builtins.input", no_input)
    run(neuron())
    assert 'no keyboard here. Give the commands: tg.debug.run(loss, "n", "why w").' in capsys.readouterr().out
