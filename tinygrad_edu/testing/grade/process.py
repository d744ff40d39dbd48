"""Somebody's engine: what its parts are called, and how programs run on it in a process of its own."""

import contextlib
import ctypes
import gc
import inspect
import itertools
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...engine import parsing
from ..check import random_program
from ..check.random_program import Program
from .sources import load

CLASSES = ("Value", "Scalar", "Variable", "Var", "Node", "Tensor", "value", "variable", "leaf")
MAKE = ("({}, requires_grad=True)", "({})", "({}, ())", "({}, '')", "({}, (), '')", "(data={})", "(value={})")
DATA = ("data", "value", "val", "v", "x")
GRADIENT = ("grad", "_grad", "gradient", "derivative", "deriv", "adjoint", "g", "dx")
BACKWARD = ("backward", "backprop", "back_prop", "backpropagate", "back_propagate", "backward_pass", "back")
DEATHS = 2  # processes that may end before an answer; then the engine is given up
PROCESSES, CROWD = 100, 250  # that an engine may have; the exit code of its guard if there are more
PACKAGE, OWN = str(Path(__file__).parents[2]), (__file__, random_program.__file__, parsing.__file__)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of Linux


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
    forward: Sequence[str] = ()  # the functions that computed the results, in the order of their calls


class Spelling(NamedTuple):
    """How an engine is written: templates of Python, {} for a number or a node."""

    name: str
    make: str
    data: str
    gradient: str
    backward: str
    shared: str = ""  # a list or set that all nodes have in common
    notes: Sequence[str] = ()  # of the cells of a notebook


# --- In the process of the engine -----------------------------------------------------------------------------


def _scope(engine: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    """The names that an engine defines, those of them that may make a leaf, the likeliest first, and notes."""
    notes = list[str]()
    if isinstance(engine, str | os.PathLike):
        engine, notes = load(Path(engine))
    engine = vars(engine) if isinstance(engine, types.ModuleType) else engine
    if not isinstance(engine, Mapping):
        if not callable(engine):
            raise ValueError(f"an engine is a class, a module, a dict or the path of a file, not {engine!r:.60}")
        return {engine.__name__: engine}, [engine.__name__], []
    own = [n for n, x in engine.items() if isinstance(x, type) and x.__module__ == engine.get("__name__")]
    engines = [n for n in own if any(hasattr(engine[n], b) for b in BACKWARD)]
    apart = [n for n in engines if not any(issubclass(engine[m], engine[n]) for m in engines if m != n)]
    if len(apart) > 1 and not {*CLASSES} & {*engine}:
        raise ValueError(
            f"there are {len(apart)} classes with a backward(), {', '.join(apart)}: call one of them Value"
        )
    names = [*CLASSES[:1], *engines, *CLASSES]
    return dict(engine), [n for n in names if callable(engine.get(n))], notes


class Interpreter:
    """Runs programs on an engine in this process. Raises ValueError if the engine's parts cannot be found."""

    def __init__(self, engine: Any):
        self.scope, names, notes = _scope(engine)
        self.watched: bool = not str(getattr(engine, "__module__", "")).startswith("tinygrad_edu")
        why = "there is no class with a method backward(), such as Value"
        for name, ending in itertools.product(names, MAKE):
            try:
                self.leaf, other = (self._eval((name + ending).format(x)) for x in (8.0, 2.0))
                data = self._part((*DATA, *getattr(self.leaf, "__dict__", ())), lambda x: x == 8)
            except Exception as error:
                why = f"{name}(8.0) does not make a node: {error}" if ending == "({})" else why
                continue
            likely = (n for n in dir(self.leaf) if re.search("grad|deriv|adj", n))
            likely = (n for n in likely if not re.search("zero|req|local", n))
            gradient = self._part((*GRADIENT, *likely), lambda x: x == x)
            parts = [n for n in dir(self.leaf) if n[:2] != "__" and hasattr(other, n)]
            common = (n for n in parts if getattr(self.leaf, n, None) is getattr(other, n))
            shared = next((n for n in common if isinstance(getattr(other, n), list | set)), "")
            self.spelling = Spelling(name, name + ending, data, gradient, self._backward(), shared, notes)
            return
        raise ValueError(why)

    def _eval(self, text: str, **names: Any) -> Any:
        return eval(text, self.scope, names)

    def _number(self, text: str, node: Any, of_node: str = "") -> float:
        """The number that a template gives for a node: 0 for None, and for a node its own number."""
        x = self._eval(text.format("x"), x=node)
        if isinstance(x, bool | str) or (x is None and text.endswith(")")):
            raise TypeError(f"{text.format('a node')} is {x!r}")
        try:
            return 0.0 if x is None else float(x.item() if hasattr(x, "item") else x)
        except TypeError:
            if not of_node:
                raise
            return self._number(of_node, x)

    def _part(self, names: tuple[str, ...], right: Callable[[float], bool]) -> str:
        """The template that reads a number with this property from a leaf."""
        for name, template in itertools.product(names, ("{{}}.{}", "{{}}.{}()", "{{}}[{!r}]")):
            text = template.format(name)
            with contextlib.suppress(Exception):
                if right(self._number(text, self.leaf)):
                    return text
        raise ValueError(f"nothing in {type(self.leaf).__name__} holds its {names[0]}, such as .{names[0]}")

    def _backward(self) -> str:
        methods = [n for n in dir(self.leaf) if n in BACKWARD or ("back" in n and n[0] != "_")]
        methods.sort(key=lambda n: BACKWARD.index(n) if n in BACKWARD else 99)
        ways = [(getattr(self.leaf, n), f"{{}}.{n}(", "") for n in methods]
        ways += [(self.scope.get(n), f"{n}({{}}", ", ") for n in BACKWARD]
        for function, start, comma in ways:
            with contextlib.suppress(TypeError, ValueError):
                parameters = inspect.signature(function).parameters.values()
                needed = sum(p.default is p.empty and p.kind <= 1 for p in parameters) - bool(comma)
                return f"{start}{f'{comma}1.0' * (needed > 0)})"  # some take the root's gradient
        raise ValueError(
            f"{type(self.leaf).__name__} has no method that starts a backward pass, such as backward()"
        )

    def answer(
        self, program: Program, roots: tuple[int, ...] = (-1,), seeded: bool = False, watched: bool = False
    ) -> Answer:
        """Run a program, and the backward pass from each root in turn. Any exception becomes an answer.

        seeded: is the root's gradient set by hand? watched: are the functions counted and named?
        """
        calls, borrowed, stage, error, inside = 0, "", "leaves", "", False
        data, grads, forward = tuple[float, ...](), tuple[float, ...](), list[str]()

        def watch(frame: types.FrameType, event: str, _: Any) -> None:
            nonlocal calls, borrowed, inside
            code, file = frame.f_code, frame.f_code.co_filename
            if event == "call" and file not in OWN:
                calls += 1
                if file.startswith(PACKAGE) and self.watched:
                    borrowed = code.co_qualname
                inside = stage == "forward" and (inside or code.co_name == "<module>")  # the expression itself
                if inside and code.co_name != "<module>":
                    forward.append(f"{code.co_qualname}, {file}:{code.co_firstlineno}")

        try:
            if watched:
                threading.setprofile(watch)
                sys.setprofile(watch)
            if self.spelling.shared:  # without the nodes of earlier programs, as in a process of its own
                common = getattr(self.leaf, self.spelling.shared)
                for old in [node for node in common if isinstance(node, type(self.leaf))]:
                    common.remove(old)
            leaves = [self._eval(self.spelling.make.format(repr(x))) for x in program.inputs]
            stage = "forward"
            results = program.run(leaves, scope=self.scope)
            stage = "numbers"
            data = tuple(self._number(self.spelling.data, node) for node in results)
            stage = "backward"
            for root in roots:
                if seeded:
                    exec(f"{self.spelling.gradient.format('x')} = 1.0", self.scope, {"x": results[root]})
                self._eval(self.spelling.backward.format("x"), x=results[root])
            grads = tuple(self._number(self.spelling.gradient, node, self.spelling.data) for node in results)
        except BaseException as failure:
            data, grads, error = (), (), _told(failure)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
        where = ("backward" if stage == "backward" else "forward") if error else ""
        return Answer(data, grads, error, where, calls, borrowed, forward[:50])


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")[:150]


def _serve(connection: Any, engine: Any, seconds: float, megabytes: int) -> None:
    """Answer programs until the connection is closed. What goes back is JSON: no object of the engine."""
    import resource  # Windows does not have it

    warnings.simplefilter("ignore")
    sys.setprofile(None)  # the parent may run in a profiler
    gc.callbacks.clear()  # and Hypothesis has one, which is no function of the engine
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds),) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes << 20,) * 2)
    with contextlib.suppress(OSError, ValueError):  # macOS tells no memory in use, and does not limit it
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20),) * 2)
    try:
        running = Interpreter(engine)
    except BaseException as error:
        connection.send_bytes(json.dumps(str(error) if type(error) is ValueError else _told(error)).encode())
        return
    connection.send_bytes(json.dumps(running.spelling).encode())
    with contextlib.suppress(EOFError):
        while True:
            for program, options in connection.recv():
                connection.send_bytes(json.dumps(running.answer(program, **options)).encode())


# --- Between the two ------------------------------------------------------------------------------------------


def _guard(connection: Any, engine: Any, seconds: float, megabytes: int) -> None:
    """Fork the process of the engine, and when it or the grader ends, or at a signal, end all it has started.

    Its orphans become children of this process, so that none can get away.
    """
    _control(PR_SET_CHILD_SUBREAPER, 1)
    _control(PR_SET_PDEATHSIG, signal.SIGTERM)
    pid = os.fork()
    if not pid:
        os.setsid()
        _control(PR_SET_PDEATHSIG, signal.SIGKILL)
        _serve(connection, engine, seconds, megabytes)
        os._exit(0)
    connection.close()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _kill([pid]))
    crowd = False
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        crowd = crowd or len(_descendants()) > PROCESSES
        _kill([pid] * crowd)
        time.sleep(0.02)
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    for _ in range(300):  # the children of a process that has ended become children of this one
        _kill(children := _descendants())
        if not children:
            break
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(ended[1])
    os._exit(CROWD if crowd else 128 - code if code < 0 else code)


def _kill(processes: Sequence[int]) -> None:
    for process in processes:
        with contextlib.suppress(OSError):  # it may have ended by itself
            os.kill(process, signal.SIGKILL)


def _descendants() -> list[int]:
    """The processes below this one, as far as the system tells; of very many the first."""
    processes = [os.getpid()]
    for process in processes:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{process}/task").iterdir():
                processes += map(int, (thread / "children").read_text().split())
        if len(processes) > 10 * PROCESSES:
            break
    return processes[1:]


def _control(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


# --- In this process ------------------------------------------------------------------------------------------


class EngineProcess:
    """An engine behind a pipe, in a forked process, so that any class will do, also one of a notebook.

    All its answers together may take `seconds` of wall time. Where nothing forks (Windows), it runs in this
    process without limits; macOS limits no memory. `unlimited` says so. Raises ValueError if it cannot be run.
    """

    def __init__(self, engine: Any, seconds: float, megabytes: int):
        self.limits: tuple[float, int] = (seconds, megabytes)
        self.engine: Any = engine
        self.left: float = seconds
        self.deaths: int = 0
        self.unlimited = "" if Path("/proc/self/statm").exists() else "memory"
        self._process: Any = None
        self._here: Interpreter | None = None
        if "fork" in multiprocessing.get_all_start_methods():
            self._start()
        else:
            self._here, self.unlimited = Interpreter(engine), "time and memory"
            self.spelling: Spelling = self._here.spelling

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_guard, args=(theirs, self.engine, *self.limits))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads: the child starts none
            self._process.start()
        theirs.close()
        first = self._receive(self.limits[0])
        if not isinstance(first, list):
            reason = first or self._ended()
            raise GivenUp(reason) if self.deaths else ValueError(first or f"it {reason}")
        self.spelling = Spelling(*first)

    def _receive(self, seconds: float) -> Any:
        start = time.monotonic()
        with contextlib.suppress(EOFError, OSError, ValueError):
            ends = [self._connection, self._process.sentinel]
            ready = multiprocessing.connection.wait(ends, max(0.0, min(seconds, self.left)))
            self.left -= time.monotonic() - start
            return json.loads(self._connection.recv_bytes()) if self._connection in ready else None

    def _ended(self) -> str:
        """Stop the process, and say why it gave no answer."""
        process = self._process
        self.close()
        if process.exitcode == CROWD:
            self.deaths = DEATHS  # it is given up at once
            return f"started more than {PROCESSES} processes"
        if process.exitcode in (-9, 128 + 9, 128 + 24):  # SIGKILL and SIGXCPU at the limit
            return f"took more than {self.limits[0]:.3g} seconds"
        return f"ended its process (exit code {process.exitcode})"

    def ask(self, programs: Sequence[Program], **options: Any) -> Iterator[Answer]:
        """The engine's answers to programs in its spelling: see `Interpreter.answer`. Raises GivenUp."""
        questions = [(program, options) for program in programs]
        if self._here:
            yield from (self._here.answer(program, **options) for program in programs)
            return
        while questions:
            if self._process is None:
                self._start()
            with contextlib.suppress(OSError):
                self._connection.send(questions)
            while questions and isinstance(answer := self._receive(self.limits[0] / 3), list):
                del questions[0]
                yield Answer(*answer)
            if questions:
                del questions[0]
                error = self._ended()
                self.deaths += 1
                if self.deaths > DEATHS or self.left <= 0:
                    raise GivenUp(error)
                yield Answer(error=error, stage="process")

    def close(self) -> None:
        """End the process, and those that it has started."""
        if self._process is not None:
            self._process.terminate()
            self._process.join(3)
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None
