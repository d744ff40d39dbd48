"""Somebody's engine: what its parts are called, and how programs run on it in a process of its own."""

import contextlib
import inspect
import itertools
import json
import math
import multiprocessing
import os
import re
import runpy
import sys
import threading
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import program as _program
from .program import Program

CLASSES = ("Value", "Scalar", "Variable", "Var", "Node", "Tensor", "value", "variable", "leaf")
MAKE = ("({}, requires_grad=True)", "({})", "({}, ())", "({}, '')", "({}, (), '')", "(data={})", "(value={})")
DATA = ("data", "value", "val", "v", "x")
GRADIENT = ("grad", "_grad", "gradient", "derivative", "deriv", "adjoint", "g", "dx")
BACKWARD = ("backward", "backprop", "back_prop", "backpropagate", "back_propagate", "backward_pass", "back")
WAIT = 60.0  # seconds for an answer, for engines that sleep: the limit proper is on the processor's time
DEATHS = 2  # processes that may end before an answer; then the engine is given up
PACKAGE, OWN = str(Path(__file__).parent.parent), (__file__, _program.__file__)


class GivenUp(Exception):
    """The engine has ended or hung its process too often."""


class Answer(NamedTuple):
    """What an engine answered: the numbers and the gradients of all results, or an error and where it arose."""

    data: Sequence[float] = ()
    grads: Sequence[float] = ()
    error: str = ""
    stage: str = ""  # "forward", "backward", or "process" for one that ended
    calls: int = 0  # of Python functions
    borrowed: str = ""  # a function of tinygrad_edu that the engine called


class Spelling(NamedTuple):
    """How an engine is written: templates of Python, {} for a number or a node."""

    name: str
    make: str
    data: str
    gradient: str
    backward: str


# --- In the process of the engine -----------------------------------------------------------------------------


def _scope(engine: Any) -> tuple[dict[str, Any], list[str]]:
    """The names that an engine defines, and those of them that may make a leaf, the likeliest first."""
    if isinstance(engine, Path):
        sys.path.insert(0, str(engine.parent))
        engine = runpy.run_path(str(engine), run_name=f"graded_{engine.stem}")
    if isinstance(engine, types.ModuleType):
        engine = vars(engine)
    if not isinstance(engine, Mapping):
        return {engine.__name__: engine}, [engine.__name__]
    own = [n for n, x in engine.items() if isinstance(x, type) and x.__module__ == engine.get("__name__")]
    names = [*CLASSES[:1], *(n for n in own if any(hasattr(engine[n], b) for b in BACKWARD)), *CLASSES]
    return dict(engine), [n for n in names if callable(engine.get(n))]


class Engine:
    """An engine in this process. Raises ValueError if its parts cannot be found."""

    def __init__(self, engine: Any):
        self.scope, names = _scope(engine)
        self.watched = not str(getattr(engine, "__module__", "")).startswith("tinygrad_edu")
        why = "there is no class with a method backward(), such as Value"
        for name, ending in itertools.product(names, MAKE):
            try:
                leaf = self._eval((name + ending).format(0.8125))
                try:
                    data = self._found(leaf, (*DATA, *getattr(leaf, "__dict__", ())), lambda x: x == 0.8125)
                except ValueError:  # one that rounds
                    data = self._found(leaf, DATA, lambda x: abs(x - 0.8125) < 1)
            except Exception as error:
                why = f"{name}(0.8125) does not make a node: {error}" if ending == "({})" else why
                continue
            names = [n for n in dir(leaf) if re.search("grad|deriv|adj", n) and not re.search("zero|req|local", n)]
            gradient = self._found(leaf, (*GRADIENT, *names), lambda x: x == x)
            self.spelling = Spelling(name, name + ending, data, gradient, self._backward(leaf))
            return
        raise ValueError(why)

    def _eval(self, text: str, **names: Any) -> Any:
        return eval(text, self.scope, names)

    def _number(self, text: str, node: Any, of_node: str = "") -> float:
        """The number that a template gives for a node: 0 for None, and for a node its own number."""
        found = self._eval(text.format("x"), x=node)
        if isinstance(found, bool | str) or (found is None and text.endswith(")")):
            raise TypeError(f"{text.format('a node')} is {found!r}")
        try:
            return 0.0 if found is None else float(found.item() if hasattr(found, "item") else found)
        except TypeError:
            if not of_node:
                raise
            return self._number(of_node, found)

    def _found(self, leaf: Any, names: tuple[str, ...], right: Callable[[float], bool]) -> str:
        """The template that reads a number with this property from a leaf."""
        for name, template in itertools.product(names, ("{{}}.{}", "{{}}.{}()", "{{}}[{!r}]")):
            text = template.format(name)
            with contextlib.suppress(Exception):
                if right(self._number(text, leaf)):
                    return text
        raise ValueError(f"nothing in {type(leaf).__name__} holds its {names[0]}, such as .{names[0]}")

    def _backward(self, leaf: Any) -> str:
        methods = [n for n in dir(leaf) if n in BACKWARD or ("back" in n and n[0] != "_")]
        found = [(getattr(leaf, n), f"{{}}.{n}(", "") for n in (*(b for b in BACKWARD if b in methods), *methods)]
        found += [(self.scope.get(n), f"{n}({{}}", ", ") for n in BACKWARD]
        for function, start, comma in found:
            with contextlib.suppress(TypeError, ValueError):
                parameters = inspect.signature(function).parameters.values()
                needed = sum(p.default is p.empty and p.kind <= 1 for p in parameters) - bool(comma)
                return f"{start}{f'{comma}1.0' * (needed > 0)})"  # some take the root's gradient
        raise ValueError(f"{type(leaf).__name__} has no method that starts a backward pass, such as backward()")

    def answer(self, program: Program, roots: tuple[int, ...], seeded: bool, watched: bool) -> Answer:
        """Run a program, and the backward pass from each root in turn. Any exception becomes an answer."""
        calls, borrowed, stage = 0, "", "forward"

        def watch(frame: types.FrameType, event: str, _: Any) -> None:
            nonlocal calls, borrowed
            if event == "call":
                calls += 1
                file = frame.f_code.co_filename
                if file.startswith(PACKAGE) and file not in OWN and self.watched:
                    borrowed = frame.f_code.co_qualname

        try:
            if watched:
                threading.setprofile(watch)
                sys.setprofile(watch)
            leaves = [self._eval(self.spelling.make.format(repr(x))) for x in program.inputs]
            results = program.run(leaves, scope=self.scope)
            data = tuple(self._number(self.spelling.data, node) for node in results)
            stage = "backward"
            for root in roots:
                if seeded:
                    exec(f"{self.spelling.gradient.format('x')} = 1.0", self.scope, {"x": results[root]})
                self._eval(self.spelling.backward.format("x"), x=results[root])
            grads = tuple(self._number(self.spelling.gradient, node, self.spelling.data) for node in results)
            return Answer(data, grads, calls=calls, borrowed=borrowed)
        except BaseException as error:
            return Answer((), (), _told(error), stage, calls, borrowed)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")[:150]


def _serve(connection: Any, engine: Any, seconds: float, megabytes: int) -> None:
    """Answer programs until the connection is closed. What goes back is JSON: no object of the engine."""
    warnings.simplefilter("ignore")
    sys.setprofile(None)  # of a profiler that runs in the parent
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    limit(seconds, megabytes)
    try:
        running = Engine(engine)
    except BaseException as error:
        connection.send_bytes(json.dumps(str(error) if type(error) is ValueError else _told(error)).encode())
        return
    connection.send_bytes(json.dumps(running.spelling).encode())
    with contextlib.suppress(EOFError):
        while True:
            connection.send_bytes(json.dumps(running.answer(*connection.recv())).encode())


def limit(seconds: float, megabytes: int) -> None:
    """Limit the processor time and, where /proc tells what is in use, the memory of this process."""
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds),) * 2)
    with contextlib.suppress(OSError, ValueError):  # macOS
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20),) * 2)


# --- In this process ------------------------------------------------------------------------------------------


class Learner:
    """An engine behind a pipe, in a forked process, so that any class will do, also one of a notebook.

    Where nothing forks (Windows), it runs in this process without limits; macOS limits no memory. `unlimited` says
    so. Raises ValueError if the engine cannot be run at all.
    """

    def __init__(self, engine: Any, seconds: float, megabytes: int):
        self.limits, self.engine, self.deaths = (seconds, megabytes), engine, 0
        self.unlimited = "" if Path("/proc/self/statm").exists() else "memory"
        self._process: Any = None
        self._here: Engine | None = None
        if "fork" in multiprocessing.get_all_start_methods():
            self._start()
        else:
            self._here, self.unlimited = Engine(engine), "time and memory"
            self.spelling = self._here.spelling

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.engine, *self.limits), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads: the child starts none
            self._process.start()
        theirs.close()
        first = self._receive()
        if not isinstance(first, list):
            raise ValueError(first or f"it {self._ended()}")
        self.spelling = Spelling(*first)

    def _receive(self) -> Any:
        with contextlib.suppress(EOFError, OSError):
            if self._connection.poll(WAIT):
                return json.loads(self._connection.recv_bytes())

    def _ended(self) -> str:
        """Stop the process, and say why it gave no answer."""
        self._process.join(1)
        code = self._process.exitcode
        self.close()
        if code in (None, -9, -24):  # SIGKILL and SIGXCPU at the limit
            return f"took more than {self.limits[0] if code else WAIT:g} seconds"
        return f"ended its process (exit code {code})"

    def ask(
        self, program: Program, roots: tuple[int, ...] = (-1,), seeded: bool = False, watched: bool = True
    ) -> Answer:
        """The engine's answer to a program in its spelling, after backward() from each root. Raises GivenUp."""
        if self._here:
            return self._here.answer(program, roots, seeded, watched)
        if self._process is None:
            self._start()
        with contextlib.suppress(OSError):
            self._connection.send((program, roots, seeded, watched))
        answer = self._receive()
        if isinstance(answer, list):
            return Answer(*answer)
        self.deaths, error = self.deaths + 1, self._ended()
        if self.deaths > DEATHS:
            raise GivenUp(error)
        return Answer(error=error, stage="process")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None
