"""Somebody's engine: what its parts are called, and how programs run on it in a process of its own."""

import contextlib
import importlib.util
import inspect
import itertools
import json
import math
import multiprocessing
import os
import re
import sys
import threading
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import program as _program
from .program import Program

CLASSES = ("Value", "Scalar", "Variable", "Var", "Node", "Tensor", "value", "variable", "leaf")
DATA = ("data", "value", "val", "v", "x", "item")
GRADIENT = ("grad", "_grad", "gradient", "derivative", "deriv", "adjoint", "grad_value", "g", "dx")
BACKWARD = ("backward", "backprop", "back_prop", "backpropagate", "back_propagate", "backward_pass", "back")
MAKE = ("({}, requires_grad=True)", "({})", "({}, ())", "({}, '')", "({}, (), '')", "({}, None)", "({}, [], '')")
WAIT = 120.0  # seconds for an answer, for engines that sleep: the limit proper is on the processor's time
DEATHS = 2  # processes that may end before an answer; then the engine is given up
PACKAGE = str(Path(__file__).parent.parent)
HERE = (__file__, _program.__file__)


class Answer(NamedTuple):
    """What an engine answered: the numbers and the gradients of all results, or an error and where it arose."""

    data: tuple[float, ...] = ()
    grads: tuple[float, ...] = ()
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


def _scope(engine: Any) -> tuple[dict[str, Any], str]:
    """The functions of an engine, and the name of the one that makes a leaf.

    Raises ValueError if there is none.
    """
    if isinstance(engine, Path):
        spec = importlib.util.spec_from_file_location(f"graded_{engine.stem}", engine)
        if spec is None or spec.loader is None:
            raise ValueError(f"{engine.name} is no Python file.")
        sys.path.insert(0, str(engine.parent))
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        engine = module
    if isinstance(engine, types.ModuleType):
        engine = vars(engine)
    if not isinstance(engine, Mapping):
        name = getattr(engine, "__name__", "Value")
        return {name: engine}, name
    scope, home = dict(engine), engine.get("__name__")
    classes = [x for x in scope.values() if isinstance(x, type) and (home is None or x.__module__ == home)]
    likely = [x.__name__ for x in classes if any(hasattr(x, n) for n in BACKWARD) and scope.get(x.__name__) is x]
    for name in (*(n for n in CLASSES[:1] if n in scope), *likely, *CLASSES):
        if callable(scope.get(name)):
            return scope, name
    raise ValueError("There is no class with a method backward(), such as Value.")


class Engine:
    """An engine in this process: it finds the spelling, and answers programs. Raises ValueError if it cannot."""

    def __init__(self, engine: Any):
        self.scope, name = _scope(engine)
        self.watched = not getattr(engine, "__module__", "").startswith("tinygrad_edu")
        leaf, errors = None, []
        for ending in MAKE:
            make = name + ending
            try:
                leaf = self._eval(make.format("0.8125"))
                data = self._found(leaf, DATA, lambda x: x == 0.8125)
                break
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
        else:
            raise ValueError(f"{name}(0.8125) does not make a node: {errors[1]}")
        likely = [n for n in dir(leaf) if re.search("grad|deriv|adj", n) and not re.search("zero|req|local", n)]
        gradient = self._found(leaf, (*GRADIENT, *likely), lambda x: not math.isnan(x))
        self.spelling = Spelling(name, make, data, gradient, self._backward(leaf))

    def _eval(self, text: str, **names: Any) -> Any:
        return eval(text, self.scope, names)

    def _number(self, text: str, node: Any, x: str = "") -> float:
        """The number that a template gives for a node. None is 0, and a node stands for its own number."""
        found = self._eval(text.format("x"), x=node)
        if isinstance(found, bool | str):
            raise TypeError(f"{text.format('a node')} is {found!r}")
        try:
            return 0.0 if found is None else float(found)
        except TypeError:
            if not x:
                raise
            return self._number(x, found)

    def _found(self, leaf: Any, names: tuple[str, ...], right: Any) -> str:
        others = [n for n in getattr(leaf, "__dict__", ()) if n not in names] if names is DATA else ()
        for name, call in itertools.product((*names, *others), ("", "()")):
            text = f"{{}}.{name}{call}"
            with contextlib.suppress(Exception):
                if not (call and self._eval(text.format("x"), x=leaf) is None) and right(self._number(text, leaf)):
                    return text
        what = "number" if names is DATA else "gradient"
        raise ValueError(f"no attribute of {type(leaf).__name__} holds its {what}, such as .{names[0]}")

    def _backward(self, leaf: Any) -> str:
        others = [n for n in dir(leaf) if "back" in n and not n.startswith("_")]
        for name in (*BACKWARD, *others, "compute_gradients", "compute_grads", "gradients", "run"):
            for found, text in ((getattr(leaf, name, None), f"{{}}.{name}"), (self.scope.get(name), name)):
                if not callable(found):
                    continue
                with contextlib.suppress(TypeError, ValueError):
                    parameters = inspect.signature(found).parameters.values()
                    needed = sum(p.default is p.empty and p.kind <= 1 for p in parameters)
                    if text.startswith("{}"):
                        return text + ("()" if needed == 0 else "(1.0)")
                    return text + ("({})" if needed <= 1 else "({}, 1.0)")
        raise ValueError(f"{type(leaf).__name__} has no method that starts a backward pass, such as backward()")

    def answer(self, program: Program, roots: tuple[int, ...], seeded: bool, watched: bool) -> Answer:
        """Run a program, and the backward pass from each root in turn. Any exception becomes an answer."""
        calls, borrowed, stage = 0, "", "forward"

        def watch(frame: types.FrameType, event: str, _: Any) -> None:
            nonlocal calls, borrowed
            if event == "call":
                calls += 1
                file = frame.f_code.co_filename
                if file.startswith(PACKAGE) and file not in HERE and self.watched:
                    borrowed = frame.f_code.co_qualname

        before = sys.getprofile()
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
            return Answer((), (), f"{type(error).__name__}: {str(error)[:150]}".rstrip(": "), stage, calls, borrowed)
        finally:
            sys.setprofile(before)
            threading.setprofile(None)  # type: ignore[arg-type]  # typeshed knows no None here


def _serve(connection: Any, engine: Any, seconds: float, megabytes: int) -> None:
    """Answer programs until the connection is closed. What comes back is JSON: no object of the engine leaves."""
    warnings.simplefilter("ignore")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    limit(seconds, megabytes)
    try:
        running = Engine(engine)
        first: Any = running.spelling
    except BaseException as error:
        first = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    connection.send_bytes(json.dumps(first).encode())
    with contextlib.suppress(EOFError):
        while not isinstance(first, str):
            connection.send_bytes(json.dumps(running.answer(*connection.recv())).encode())


def limit(seconds: float, megabytes: int) -> str:
    """Limit the processor time and the memory of this process. Returns what cannot be limited here."""
    try:
        import resource
    except ImportError:  # Windows, a browser
        return "memory"
    if seconds == math.inf:
        return ""
    whole = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + (megabytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (OSError, ValueError):  # macOS
        return "memory"
    return ""


# --- In this process ------------------------------------------------------------------------------------------


class Learner:
    """An engine behind a pipe: `ask(program)`. Raises ValueError if it cannot be run at all.

    Where processes fork, any class will do, also one of a notebook. Elsewhere a file or a class of a module has a
    process of its own, whose memory is not limited; any other class runs in this process without any limit.
    `unlimited` says which.
    """

    def __init__(self, engine: Any, seconds: float, megabytes: int):
        self.limits, self.engine, self.deaths, self.asked = (seconds, megabytes), engine, 0, 0
        self.unlimited = limit(math.inf, 0)
        fork = "fork" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("fork" if fork else "spawn")
        self._process: Any = None
        self._here: Engine | None = None
        if not fork and (isinstance(engine, Mapping | types.ModuleType) or _is_local(engine)):
            self._here, self.unlimited = Engine(engine), "time and memory"
            self.spelling = self._here.spelling
        else:
            self._start()

    def _start(self) -> None:
        self._connection, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs, self.engine, *self.limits), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads: the child starts none
            self._process.start()
        theirs.close()
        first = self._receive()
        if not isinstance(first, list):
            raise ValueError(first if isinstance(first, str) else f"The engine's file {self._ended()}.")
        self.spelling = Spelling(*first)

    def _receive(self) -> Any:
        try:
            return json.loads(self._connection.recv_bytes()) if self._connection.poll(WAIT) else None
        except (EOFError, OSError):
            return None

    def _ended(self) -> str:
        """Stop the process, and say why it gave no answer."""
        self._process.join(1)
        code = self._process.exitcode
        self.close()
        if code is None or code in (-9, -24):  # SIGKILL and SIGXCPU at the limit
            return f"took more than {self.limits[0] if code else WAIT:g} seconds"
        return f"ended its process (exit code {code})"

    def ask(
        self, program: Program, roots: tuple[int, ...] = (-1,), seeded: bool = False, watched: bool = True
    ) -> Answer:
        """The engine's numbers and gradients of a program in its spelling, after backward() from each root."""
        self.asked += 1
        if self._here:
            return self._here.answer(program, roots, seeded, watched)
        if self._process is None and self.deaths <= DEATHS:
            self._start()
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._connection.send((program, roots, seeded, watched))
            answer = self._receive()
            if isinstance(answer, list):
                data, grads, *rest = answer
                return Answer(tuple(data), tuple(grads), *rest)
            self.deaths, self.last = self.deaths + 1, self._ended()
        return Answer(error=self.last, stage="process")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


def _is_local(engine: Any) -> bool:
    """Can another process not import it by name?"""
    if isinstance(engine, Path):
        return False
    module = sys.modules.get(getattr(engine, "__module__", ""))
    return getattr(engine, "__module__", "") == "__main__" or not hasattr(module, getattr(engine, "__name__", ""))
