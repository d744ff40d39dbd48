"""The machine at the prompt: both passes, its frames, nodes by name, other numbers, and source lines."""

import contextlib
import math
import threading

import pytest
from graphs import chain, labelled, named, neuron

from tinygrad_edu import Value, topological_order
from tinygrad_edu.debug import Machine, steps, tracing
from tinygrad_edu.engine import value as engine_value


def test_commands_return_the_machine_and_move_it():
    root = neuron()
    machine = Machine(root, upstream=2)
    e, d = (next(node for node in topological_order(root) if node.label == label) for label in "ed")
    moves = [
        (lambda: machine.back(), 0),
        (lambda: machine.next(), 1),
        (lambda: machine.goto(d), 3),
        (lambda: machine.goto(e), 2),
        (lambda: machine.goto(root), 1),
        (lambda: machine.run(), 3),
        (lambda: machine.next(), 3),
        (lambda: machine.goto(0), 0),
        (lambda: machine.goto(2), 2),
        (lambda: machine.reset(), 0),
    ]
    for move, position in moves:
        assert move() is machine
        assert machine.position == position
        assert machine.step == (machine.steps[position - 1] if position else None)
        assert machine.gradients == steps(root, 2).gradients(position)
        assert repr(machine).startswith(f"step {position} of 3")


def test_a_machine_with_no_steps():
    machine = Machine(Value(2.0, label="x"))
    for move in (machine.next, machine.back, machine.run, machine.reset):
        assert repr(move()) == (
            "step 0 of 0 - the end: all gradients are complete, next() stays here\n"
            "x.grad is 1, all others are 0\n\n"
            "done  x  2  grad 1"
        )


def test_values_and_gradients_of_zero_are_shown():
    assert "\n->    #100 = -#99   0  grad 1\n" in repr(Machine(chain(100, Value(0.0))))
    (x,) = labelled(x=-1.0)
    lines = repr(Machine(x.relu() * 2).run()).splitlines()
    assert lines[-2:] == ["done  x             -1  grad 0 *", "done  #0             2  grad 0 *"]


def test_a_frame_of_a_large_graph_shows_the_neighbourhood_and_operands_far_away():
    machine = Machine(chain(20_000))
    assert machine.goto(10_000).position == 10_000
    for _ in range(5):
        text = repr(machine.next())
    listing = text.split("\n\n")[1].splitlines()
    assert listing[0] == "      ... 9,999 nodes not shown"
    assert "->    #9995 = -#9994    -1  grad -1 *" in listing
    assert len(listing) == 14
    assert len(machine.listing()) == 42
    x, far = labelled(x=1.0, far=2.0)
    frame = repr(Machine(named(far * 1, "far1") + chain(100, x)).next())
    assert "      far1 = far * #1   2  grad 1 *" in frame or "far1 = far" in frame
    assert "... " in frame
    x = Value(1.0, label="x" * 10_000)
    assert max(map(len, repr(Machine(chain(3) + x)).splitlines()[3:5])) < 10_200
    assert min(map(len, repr(Machine(chain(3) + x)).splitlines()[4:])) < 100


def test_both_passes_by_letters_and_names():
    machine = Machine(neuron()).forward().goto(1)
    assert [machine.b().position for _ in range(5)] == [0, -1, -2, -3, -3]
    assert machine.backward().position == machine.b().position == 0
    assert [machine.forward().until("e").position, machine.until("e").position, machine.position] == [-1, 2, 2]
    machine = Machine(neuron())
    moves = (lambda: machine.s(), lambda: machine.g("d"), lambda: machine.b(), lambda: machine.r())
    assert [move().position for move in moves] == [1, 3, 2, 3]
    assert machine.goto("#3").current.label == "d"
    assert machine.node("y") is machine.root
    assert machine.reset().until("c").position == 2
    assert machine.run().until("c").position == 3  # its gradient is complete already
    assert machine.goto("a").position == machine.goto(machine.node("a")).position == 3  # where it is complete
    assert machine.why("a").total == -3.0


def test_other_numbers_and_the_first_again():
    y = neuron()
    machine = Machine(y).goto("e")
    before = [node.data for node in topological_order(y)]
    assert repr(machine.set("c", 3)).splitlines()[-1] == "done  c                 3* grad 0.1807 *"
    assert (y.data, machine.position) == (math.tanh(1.5), 2)
    assert machine.step.upstream == pytest.approx(1 / math.cosh(1.5) ** 2)
    assert "was changed" not in repr(machine.run())
    machine.restart()
    assert [node.data for node in topological_order(y)] == before
    assert machine.position == 0


def test_a_number_outside_the_domain_changes_nothing():
    (x,) = labelled(x=1.0)
    machine = Machine((x * 1).log())
    with pytest.raises(ValueError, match="log"):
        machine.set("x", -1)
    assert (x.data, machine.root.data) == (1.0, 0.0)


def test_source_lines_are_recorded_inside_the_block_only():
    originals = Value.__init__, engine_value._result
    (a,) = labelled(a=2.0)
    with tracing():
        y = (a * 3).tanh()  # here
        with tracing():
            pass
        z = y + 1
    assert (Value.__init__, engine_value._result) == originals
    assert Machine(y).where("#2").endswith("y = (a * 3).tanh()  # here")
    assert "test_machine.py:" in Machine(y).where()
    assert Machine(z).where().endswith("z = y + 1")
    assert Machine(-z).where() == Machine(z).where("a") == ""
    with tracing():
        leaf = Value(1.0)  # a leaf
    assert Machine(leaf).where().endswith("leaf = Value(1.0)  # a leaf")
    y.backward()
    assert a.grad == pytest.approx(3 / math.cosh(6) ** 2)


def test_source_lines_leave_nothing_behind_and_are_of_one_thread():
    from tinygrad_edu.debug import origins

    before, other = dict(origins._LINES), []
    with contextlib.suppress(KeyError), tracing():
        thread = threading.Thread(target=lambda: other.append(chain(3)))
        thread.start()
        thread.join()
        mine = chain(1000)
        raise KeyError
    assert Machine(other[0], variables={}).where() == ""
    assert len(origins._LINES) == len(before) + 1001
    del mine
    assert before == origins._LINES


def test_a_machine_is_freed_with_its_graph(living):
    machine = Machine(neuron()).run()
    repr(machine.set("a", 2.0).forward().n())
    del machine
    assert living(Machine) == living() == 0
