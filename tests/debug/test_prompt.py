"""The stepping prompt: its commands, a pseudo-terminal in every Python at hand and in IPython, and a pipe."""

import gc
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.debug import run
from tinygrad_edu.debug.machine import Machine
from tinygrad_edu.debug.prompt import Prompt

ROOT = Path(__file__).parents[2]


def neuron():
    """y = tanh(a * b + c)"""
    a, b, c = (Value(number, label=label) for label, number in {"a": 0.5, "b": -3.0, "c": 1.7}.items())
    y = (a * b + c).tanh()
    y.label = "y"
    return y


@pytest.fixture
def told(capsys):
    """What the prompt prints for these commands, without the first frame and what was typed."""

    def session(root, *commands, **numbers):
        run(root, *commands, **numbers)
        return capsys.readouterr().out.partition("(tg) ")[2].replace("(tg) ", "")

    return session


def test_a_reader_that_has_seen_enough():
    read, write = os.pipe()
    os.close(read)
    program = "import sys, tinygrad_edu as tg; tg.debug.run(tg.Value(2.0) * 3, 'n'); print('on', file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (0, "on\n")


# --- Commands -------------------------------------------------------------------------------------------------


def test_a_session_as_it_looks(capsys):
    run(neuron(), "n", "", "b", "q", "n")
    out = capsys.readouterr().out
    assert re.findall(r"^(?:\(tg\) .*|step \d.*)$", out, re.M) == [
        "step 0 of 3 - the start: back() stays here",
        "(tg) n",
        "step 1 of 3",
        "(tg) ",
        "step 2 of 3",
        "(tg) b",
        "step 1 of 3",
        "(tg) q",
    ]
    assert "\x1b" not in out


def test_enter_repeats_and_is_n_at_first(capsys):
    run(neuron(), "", "", "b", "")
    headers = re.findall(r"^step (\d)", capsys.readouterr().out, re.M)
    assert headers == ["0", "1", "2", "1", "0"]


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["n", "p c.grad + 1"], "1.0"),
        (["r", "p c.grad * 2"], "1.922"),
        (["p [x.data for x in (a, b)]"], "[0.5, -3.0]"),
        (["p round(math.atanh(y.data), 6)"], "0.2"),
        (["#3.data"], "-1.5"),
        (["b.grad"], "0.0"),
        (["p max(b.data, 2)"], "2"),
        (["!a.data + 1"], "1.5"),
        (["p y.sqrt() * z"], "*** NameError: name 'z' is not defined"),
        (["p (1"], "*** SyntaxError: '(' was never closed"),
        (["forward", "p y.data"], "*** LookupError: y has no number yet: the forward pass has not come to it."),
        (["dance"], "*** There is no command 'dance': h shows them."),
        (["goto x"], "*** no node is called 'x' here."),
        (["goto"], "*** Name a node: goto 2, or goto d."),
        (["goto 7"], "*** goto takes 0 to 3, the number of steps, got 7."),
        (["set #3 2"], "*** #3 was computed: set one of the leaves it was computed from."),
        (["set a"], "*** set takes a leaf and a number: set a 3."),
        (["break q > 1"], "*** 'q > 1' names no node or module here, so it would never change."),
        (["clear 3"], "*** there is no breakpoint '3': break lists them."),
        (["unwatch a"], "*** 'a' is not watched."),
        (["help dance"], "*** there is no command 'dance': h shows them."),
        (["p #99.data"], "*** no node is called '#99' here."),
        (["p a.data == nan, -inf"], "(False, -inf)"),
        (["set a nan", "p a.data"], "nan"),
        (["a.data = 5"], "*** Nothing is assigned here: `set a 3` gives a leaf another number."),
        (["b == 1"], "False"),
        (["c = 5", "p c.grad"], "0.0"),
        (["n;;p y.grad"], "1.0"),
        (["p 1 ;; q", "p 2"], "1"),
        (["quit()", "p 2"], "quit()"),
        (["p 3", "exit()", "p 2"], "exit()"),
        (["break a.gard > 1"], "*** AttributeError: 'Value' object has no attribute 'gard'"),
        (["break a.grad > limit"], "*** NameError: name 'limit' is not defined"),
        (["break 1 / a.grad > 2"], "breakpoint 1: 1 / a.grad > 2"),
        (["watch d.grad"], "*** NameError: name 'd' is not defined"),
        (["watch"], "nothing is watched: watch w.grad shows it with every frame."),
        (["clear"], "no breakpoints: break w.grad > 1e3 sets one."),
        (["ll"], "      c                1.7  grad -"),
        (["h until"], "until X: go on to just after the step of node X; for a leaf, to where its gradient is "),
    ],
)  # fmt: skip
def test_answers(told, commands, expected):
    assert expected in told(neuron(), *commands).splitlines()[-1]


def test_help_names_every_command(told):
    shown = told(neuron(), "h")
    for name in dir(Prompt):
        word = name.removeprefix("do_")
        others = ("EOF", "exit", "help", "h", "display", "undisplay", "pp", "cl", "unt")
        if name.startswith("do_") and word not in others and len(word) > 1:
            assert word in shown.replace("(", "").replace(")", ""), word
            assert getattr(Prompt, name).__doc__


def test_watch(told):
    shown = told(neuron(), "watch a.grad", "r", "watch a.data * 2", "set a 1", "unwatch a.grad", "n")
    lines = [line for line in shown.splitlines() if line.startswith("watch ") and "=" in line]
    assert lines == [
        "watch a.grad = 0",
        "watch a.grad = -2.883 *",
        "watch a.grad = -2.883",
        "watch a.data * 2 = 1",
        "watch a.grad = -0.7723 *",
        "watch a.data * 2 = 2 *",
        "watch a.data * 2 = 2",
    ]


def test_breakpoints(told):
    shown = told(neuron(), "b c.grad > 0.5", "break a", "break", "c", "c", "c", "clear 1", "clear")
    assert "breakpoint 1: c.grad > 0.5\nbreakpoint 2: a\n" in shown
    stops = re.findall(r"^(?:stopped.*|step \d.*|removed.*)$", shown, re.M)
    assert stops == [
        "stopped at the breakpoint c.grad > 0.5",
        "step 2 of 3",
        "stopped at the breakpoint a",
        "step 3 of 3 - the end: all gradients are complete, next() stays here",
        "step 3 of 3 - the end: all gradients are complete, next() stays here",
        "removed the breakpoint c.grad > 0.5",
        "removed the breakpoint a",
    ]


def test_breakpoints_keep_their_numbers(told):
    shown = told(neuron(), "break a", "break b", "break c", "clear 1", "clear 2", "break y", "break #3")
    assert "removed the breakpoint a\n" in shown
    assert "removed the breakpoint b\n" in shown
    assert shown.endswith("breakpoint 3: c\nbreakpoint 4: y\nbreakpoint 5: #3\n")


def test_a_breakpoint_that_is_true_already(told):
    note = "a.data < 1 is true already: continue stops where it becomes true again.\n"
    assert note in told(neuron(), "break a.data < 1")
    assert "is true already" not in told(neuron(), "break a.grad < 0")


def test_continue_starts_from_where_the_machine_is(told):
    """What a condition was at the last continue does not count after other moves."""
    again = told(neuron(), "break #4.grad > 0", "c", "restart", "c")
    assert again.count("stopped at the breakpoint #4.grad > 0\nstep 1 of 3\n") == 2
    assert "stopped" not in told(neuron(), "break #4.grad > 0", "n", "c")


def test_a_syntax_error_names_no_file(told):
    assert told(neuron(), "p (1").endswith("*** SyntaxError: '(' was never closed\n")


def test_names_that_several_nodes_share(told):
    w, v = Value(2.0, label="w"), Value(3.0, label="w")
    hint = " Did you mean w#0 or w#1?\n"
    assert told(w * v + w, "p w.grad").endswith(f"*** NameError: name 'w' is not defined.{hint}")
    assert told(w * v + w, "w.grad").endswith(f"*** There is no command 'w.grad': h shows them.{hint}")
    assert told(w * v + w, "why w").endswith(f"*** no node is called 'w' here.{hint}")
    assert told(w * v + w, "break w.grad > 1").endswith(f"never change.{hint}")
    assert told(w * v + w, "r", "p w#1.grad, w#0.data").endswith("(2.0, 2.0)\n")
    loss = nn.MLP(1, [2, 1], "tanh", rng=0)([0.5]) ** 2
    assert "Did you mean layer0.neuron" in told(loss, "p w0.grad")


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


def test_break_nan_stops_where_it_is_made(told):
    x = Value(0.0, label="x")
    y = (x.sqrt() * 0.0) + x
    shown = told(y, "break nan", "c")
    assert "stopped at the breakpoint nan" in shown
    assert "x receives upstream * slope = 0 * inf = nan" in shown
    assert "stopped" in told(x.exp() * (x + 1000).exp(), "forward", "break inf", "c")


def test_break_in_a_module(told):
    loss = nn.MLP(1, [2, 1], "tanh", rng=0)([0.5]) ** 2
    shown = told(
        loss, "break neuron1", "c", "clear", "restart", "break layer0.neuron0", "c", "break layer0.neuron0.w0", "c"
    )
    stops = re.findall(r"^stopped.*$", shown, re.M)
    assert stops == [
        "stopped at the breakpoint neuron1",
        "stopped at the breakpoint layer0.neuron0",
        "stopped at the breakpoint layer0.neuron0",
    ]


def test_next_goes_over_a_module_and_tells(told):
    loss = (nn.MLP(1, [2, 1], "tanh", rng=0)([0.5]) - 1.0) ** 2
    assert re.search(r"^\d+ steps, to layer1\.neuron0$", told(loss, "n", "n", "n"), re.M)
    assert "steps, to" not in told(loss, "n", "n", "s")


def test_why_where_list_blame(told):
    loss = (Value(2.0, label="w") * 3 - 1) ** 2
    assert "1 path, all shown\ntotal 30" in told(loss, "why w")
    assert "not recorded: make the graph inside `with tg.debug.tracing():`" in told(loss, "w")
    assert "nothing to blame" in told(loss, "blame")
    assert "->    " in told(loss, "l")


def test_a_function_has_source_lines(told):
    def f(a, b):
        d = a * b
        return d.tanh()  # the last

    shown = told(f, "w", "n", "n", "w", "p a.label", a=2.0, b=-3.0)
    assert re.search(r"test_prompt\.py:\d+: return d\.tanh\(\)  # the last\n", shown)
    assert re.search(r"test_prompt\.py:\d+: d = a \* b\n", shown)
    assert shown.splitlines()[-1] == "'a'"
    with pytest.raises(TypeError, match="run takes numbers beside a function, got a beside Value"):
        run(neuron(), a=1.0)
    with pytest.raises(TypeError, match="Pass one Value"):
        run(3.0)


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
    try:
        shown = told(broken(Value(1.0, label="x")), "n", "p x.data")
    finally:
        tg.RULES.pop("broken")
    assert "*** TypeError: backward of broken must return 1 share(s)" in shown
    assert "    The chain rule had come to" in shown
    assert shown.splitlines()[-1] == "1.0"


# --- The five bugs of the lecture -----------------------------------------------------------------------------


def test_gradients_that_were_not_set_to_zero(told):
    w = Value(2.0, label="w")
    for _ in range(3):
        loss = w * 4
        loss.backward()
    assert "w.grad is 12 = 3 passes of 4: gradients were not set to zero" in told(loss, "why w")


def test_a_number_that_was_changed_after_the_forward_pass(told):
    a = Value(2.0, label="a")
    y = a * a * a
    a.data = 5.0
    y.backward()
    assert "a was changed after the forward pass" in told(y, "blame")


def test_a_wrong_order(told):
    a = Value(1.0, label="a")
    b = a * 2
    b.label = "b"
    c = b * 3
    e = b + c
    e.grad = 1.0
    for node in (e, b, c):
        node._backward()
    assert "b passed its gradient on when that was 1, before it was complete (4)" in told(e, "blame")


def test_an_overwritten_gradient(told):
    x = Value(3.0, label="x")
    y = x * x
    y.grad, x.grad = 1.0, 3.0
    assert "x.grad is 3, one of the shares 3 + 3 = 6: it was overwritten." in told(y, "blame")


def test_an_exploding_gradient(told):
    w = y = Value(30.0, label="w")
    for _ in range(8):
        y = y * w
    assert "exploding at" in told(y, "blame")
    assert "stopped at the breakpoint w.grad > 1e9" in told(y, "break w.grad > 1e9", "c")


# --- Terminals ------------------------------------------------------------------------------------------------

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
    child = pexpect.spawn(str(command), arguments, timeout=60, encoding="utf-8", dimensions=(60, 140))
    child.expect(prompt)
    return child


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
@pytest.mark.parametrize("colour", [True, False])
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
    child = terminal(
        sys.executable, ["-m", "IPython", "--simple-prompt", "--no-banner"], r"In \[1\]: ", monkeypatch, False
    )
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
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], input="n\n\np weight.grad\n", capture_output=True, text=True, env=environment
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert re.findall(r"^(\(tg\).*|step \d)", result.stdout, re.M) == [
        "step 0", "(tg) n", "step 1", "(tg) ", "step 2", "(tg) p weight.grad", "(tg) ",
    ]  # fmt: skip


def test_a_notebook_without_a_keyboard_says_what_to_do(monkeypatch, capsys):
    def no_input(prompt=""):
        raise NotImplementedError("raw_input was called, but this frontend does not support input requests.")

    monkeypatch.setattr("builtins.input", no_input)
    run(neuron())
    assert (
        'There is no keyboard here. Give the commands: tg.debug.run(loss, "n", "why w").'
        in capsys.readouterr().out
    )


# --- Room -----------------------------------------------------------------------------------------------------


def test_a_session_of_a_hundred_commands_leaks_nothing(capsys):
    def session():
        commands = ["n", "b", "forward", "n", "set a 1", "why a", "watch a.grad", "p a.grad", "c", "restart"]
        Prompt(Machine(neuron(), variables={})).session(commands * 10)
        capsys.readouterr()

    session()
    gc.collect()
    tracemalloc.start()
    try:
        session()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        session()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()
    assert not [x for x in gc.get_objects() if isinstance(x, Machine | Prompt)]
