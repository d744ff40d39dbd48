"""`run`: the stepping prompt, pdb for a graph."""

import builtins
import cmd
import inspect
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from ..engine import functions
from ..engine.value import Value
from ..page import Live, evaluated
from ..viz.names import callers_names
from .causes import blame
from .expressions import NodeExpression
from .machine import Machine
from .origins import source_lines, tracing

GREEN, PLAIN = "\x1b[32m", "\x1b[0m"
ALIASES = "n:next s:step b:back c:continue r:run g:goto w:where l:list h:help q:quit exit:quit"
AS_IN_PDB = "unt:until cl:clear ll:list pp:p display:watch undisplay:unwatch"
COMMANDS = dict(pair.split(":") for pair in f"{ALIASES} {AS_IN_PDB}".split())
ASSIGNMENT = re.compile(r"!?\s*[\w.#\[\]]+\s*[-+*/]?=[^=]")


def run(root: Value | Callable[..., Value], /, *commands: str, **numbers: Any) -> None:
    """Step through the passes of a graph at a prompt, with pdb's letters. `h` at the prompt lists the commands.

    `run(loss)` starts where the backward pass of loss starts. `run(f, a=2.0, b=-3.0)` calls f with Values of these
    names and numbers, and records which source line made which node. Commands may be given instead of a keyboard:
    `run(loss, "n", "why w")` prints the session and ends. `set` changes the graph itself; no `.grad` is written.

    Raises TypeError if there is not one Value to step through, or numbers without a function.

    >>> run(lambda a: a.tanh(), "p a.data > 0", a=2.0)
    step 0 of 1 - the start: back() stays here
    #1.grad is 1, all others are 0
    <BLANKLINE>
    ->    #1 = tanh(a)  0.964  grad 1
          a                 2  grad -
    (tg) p a.data > 0
    True
    """
    if not all(isinstance(command, str) for command in commands):
        raise TypeError(f"run takes commands as text after a graph, such as 'n', got {commands!r:.60}.")
    caller = inspect.currentframe()
    caller = caller and caller.f_back
    try:
        with tracing(), _locals_of(root) as names:
            root = evaluated(root, numbers, "run")
        scope, names = _scope(caller), names | callers_names(caller)
        machine = Machine(root, variables=names)
    finally:
        del caller  # a frame that holds itself would live until the collector comes
    try:
        Prompt(machine, scope).session(commands or None)
        sys.stdout.flush()
    except BrokenPipeError:  # as from `| head`: what is still in the buffer goes nowhere
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


@contextmanager
def _locals_of(function: Any) -> Iterator[dict[Value, str]]:
    """The names of the Values in the function's variables, when a call of it inside the block returns."""
    names: dict[Value, str] = {}
    code, old = getattr(function, "__code__", None), sys.getprofile()

    def see(frame: FrameType, event: str, result: Any) -> None:
        if event == "return" and frame.f_code is code:
            names.update(callers_names(frame))

    sys.setprofile(see if code else old)
    try:
        yield names
    finally:
        sys.setprofile(old)


def _scope(frame: FrameType | None) -> dict[str, Any]:
    """What an expression may name besides the nodes: the caller's variables, `tg.exp`, `math`, `nan` and `inf`."""
    known = {"tg": functions, "math": math, "nan": math.nan, "inf": math.inf}
    return known | ({**frame.f_globals, **frame.f_locals} if frame else {})


def _moving(title: str, move: Callable[[Machine], Machine], counted: bool = False) -> Callable[..., None]:
    """A command that moves the machine and shows where it is; if `counted`, it takes a number of moves."""

    def command(self: "Prompt", argument: str) -> None:
        letter, before = title[0], self.machine.position
        if counted and argument and not (argument.isdecimal() and int(argument) > 0):
            raise ValueError(f"{letter} takes how many steps, as in {letter} 3, not {argument!r}.")
        for _ in range(min(int(argument or 1), 2 * len(self.machine.steps)) if counted else 1):
            move(self.machine)
        self._show(before if counted else None)

    explained = move.__doc__ or ""
    command.__doc__ = f"{title}: {explained[:1].lower()}{explained[1:]}"
    return command


class Prompt(cmd.Cmd):
    """The commands over a `Machine`. `session` reads them from a list, from the keyboard, or from a pipe."""

    prompt = "(tg) "

    def __init__(self, machine: Machine, scope: Mapping[str, Any] | None = None):
        super().__init__()
        self.machine: Machine = machine
        self.scope: Mapping[str, Any] = _scope(None) if scope is None else scope
        self.breakpoints: dict[int, tuple[str, Callable[[], bool]]] = {}
        self.watches: dict[str, tuple[NodeExpression, str]] = {}  # with the text that each showed last
        self._echo = False
        self._colours = self.stdout.isatty() and not os.getenv("NO_COLOR") and os.getenv("TERM") != "dumb"

    def session(self, commands: Iterable[str] | None = None) -> None:
        """Show the first frame, then obey the commands, by default those of the keyboard or the pipe."""
        self._show()
        if commands is None:
            self._typed()
            return
        for line in commands:
            self._print(f"{self.prompt}{line}")
            if self.onecmd(line):
                break

    def _typed(self) -> None:
        # A pipe does not show what was typed; a kernel, which has no terminal either, does by its own input().
        self._echo = sys.stdin is not None and not sys.stdin.isatty() and inspect.isbuiltin(builtins.input)
        while True:
            try:
                with _line_editor():
                    self.cmdloop()
                return
            except KeyboardInterrupt:
                self._print("\nCtrl-C: q leaves the prompt.")
            except NotImplementedError:  # a notebook that is run without anybody at the keyboard
                self._print('There is no keyboard here. Give the commands: tg.debug.run(loss, "n", "why w").')
                return

    def precmd(self, line: str) -> str:
        if self._echo and line != "EOF":
            self._print(line)
        return line

    def parseline(self, line: str) -> Any:
        """(command, argument, line); `w.grad` and `w = 3` are Python, not the command w."""
        command, argument, line = super().parseline(line)
        if command in ("quit", "exit") and argument == "()":  # Python's own would end Python
            return "quit", "", line
        if command and argument and (argument[0] == "=" or not line[len(command)].isspace()):
            return None, None, line
        return COMMANDS.get(command or "", command), argument, line

    def onecmd(self, line: str) -> bool:
        """Obey one command, or several with ;; between; True ends the session. An error takes one line."""
        if ";;" in line:
            return any(self.onecmd(part.strip()) for part in line.split(";;"))
        try:
            if line == "EOF":  # the name that cmd gives the end of the input
                self._print("")
            return line == "EOF" or bool(super().onecmd(line))
        except BrokenPipeError:  # as from `| head`
            raise
        except Exception as error:
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            said = error.msg if isinstance(error, SyntaxError) else str(error)  # without (<unknown>, line 1)
            if isinstance(error, NameError) and (near := self.machine.named.similar(error.name or "?")):
                said += f".{near}"
            self._print("\n    ".join([f"*** {kind}{said}", *getattr(error, "__notes__", ())]))
            return False

    # --- Moving ---------------------------------------------------------------------------------------------

    do_next: Callable[..., None] = _moving("n(ext) [3]", Machine.over, counted=True)
    do_step: Callable[..., None] = _moving("s(tep) [3]", Machine.next, counted=True)
    do_run: Callable[..., None] = _moving("r(un)", Machine.run)
    do_forward: Callable[..., None] = _moving("forward", Machine.forward)
    do_backward: Callable[..., None] = _moving("backward", Machine.backward)
    do_restart: Callable[..., None] = _moving("restart", Machine.restart)
    _back: Callable[..., None] = _moving("b(ack)", Machine.back, counted=True)

    def do_back(self, argument: str) -> None:
        """b(ack): undo the step just taken; b 3: three. `b EXPRESSION` sets a breakpoint, as `break` does."""
        (self.do_break if argument and not argument.isdecimal() else self._back)(argument)

    def do_continue(self, argument: str) -> None:
        """c(ontinue): go on to the next breakpoint, or to the end."""
        machine, start, note = self.machine, self.machine.position, ""
        for _, holds in self.breakpoints.values():
            _true(holds)  # a condition that is true here has not become true by this command
        try:
            while machine.position < len(machine.steps) and not note:
                machine.next()
                if hit := [text for text, holds in self.breakpoints.values() if _true(holds)]:
                    note = f"stopped at the breakpoint {hit[0]}"
        finally:  # Ctrl-C and an error show how far it came
            self._show(start, note)

    def do_until(self, argument: str) -> None:
        """until X: go on to just after the step of node X; for a leaf, to where its gradient is complete."""
        self.machine.until(_named_in(argument, "until d"))
        self._show()

    def do_goto(self, argument: str) -> None:
        """g(oto) X: go to just after the step of node X, forwards or backwards, or to a number of steps."""
        target = _named_in(argument, "goto 2, or goto d")
        self.machine.goto(int(target) if target.lstrip("-").isdecimal() else target)
        self._show()

    # --- Stopping -------------------------------------------------------------------------------------------

    def do_break(self, argument: str) -> None:
        """break EXPRESSION: stop `continue` where it becomes true: break w.grad > 1e3. More: h break.

        break nan: where a number or a gradient is nan or infinite. break X: at the step of the node X, or in the
        module X: break neuron3. break alone lists the breakpoints, `clear` removes them.
        """
        if argument:
            self.breakpoints[max(self.breakpoints, default=0) + 1] = argument, self._condition(argument)
        for number, (text, _) in self.breakpoints.items():
            self._print(f"breakpoint {number}: {text}")
        if not self.breakpoints:
            self._print("no breakpoints: break w.grad > 1e3 sets one.")

    def do_clear(self, argument: str) -> None:
        """clear NUMBER: remove a breakpoint; clear alone removes all."""
        numbers = [number for number in self.breakpoints if argument in ("", str(number))]
        if argument and not numbers:
            raise ValueError(f"there is no breakpoint {argument!r}: break lists them.")
        for number in numbers:
            self._print(f"removed the breakpoint {self.breakpoints.pop(number)[0]}")
        if not numbers:
            self.do_break("")

    def _condition(self, text: str) -> Callable[[], bool]:
        machine = self.machine
        if text in ("nan", "inf"):
            return lambda: any(not math.isfinite(x) for x in self._fresh())
        if any(_within(text, machine.scope(node)) for node in machine.steps.order):
            return lambda: _within(text, machine.scope(machine.current))
        node = machine.named.find(text)
        if node is None:
            return self._becoming(NodeExpression(text, machine, self.scope))
        if node.rule is None:  # a leaf has no step: stop where its gradient changes
            return lambda: machine.current is not None and node in machine.current.parents and machine.position > 0
        return lambda: machine.current is node

    def _becoming(self, expression: NodeExpression) -> Callable[[], bool]:
        """A question: has the expression become true since this was last asked?"""
        text = expression.text
        if not expression.nodes:
            near = self.machine.named.similar(text.partition(".")[0])
            raise ValueError(f"{text!r} names no node or module here, so it would never change.{near}")
        was = _true(expression.value)
        if was:
            self._print(f"{text} is true already: continue stops where it becomes true again.")

        def becomes() -> bool:
            nonlocal was
            before, was = was, _true(expression.value)
            return was and not before

        return becomes

    def _fresh(self) -> list[Any]:
        """The numbers that the last step computed."""
        machine, step = self.machine, self.machine.step
        if step:
            return [number for share in step.shares for number in (share.share, share.after)]
        return [] if machine.current is None else [machine.steps.data[machine.current]]

    def do_watch(self, argument: str) -> None:
        """watch EXPRESSION: show it with every frame, marked where it has changed: watch w.grad. Alone: list."""
        if argument:
            expression = NodeExpression(argument, self.machine, self.scope)
            _true(expression.value)  # raises the error of a wrong name
            self.watches[argument] = expression, ""
        self._watched()
        if not self.watches:
            self._print("nothing is watched: watch w.grad shows it with every frame.")

    def do_unwatch(self, argument: str) -> None:
        """unwatch EXPRESSION: do not show it any more; alone: none of them."""
        if argument and argument not in self.watches:
            raise ValueError(f"{argument!r} is not watched.")
        for text in [argument] if argument else list(self.watches):
            del self.watches[text]

    # --- Looking --------------------------------------------------------------------------------------------

    def do_p(self, argument: str) -> None:
        """p EXPRESSION: print any Python over the nodes as they are now: p w.grad * 2. Alone: the frame."""
        if not argument:
            self._show()
            return
        self._print(NodeExpression(argument, self.machine, self.scope).shown())

    def do_list(self, argument: str) -> None:
        """l(ist): more of the nodes around the step."""
        self._print("\n".join(self.machine.listing()))

    def do_where(self, argument: str) -> None:
        """w(here) X: the source line that made node X, by default the node of this step."""
        line = self.machine.where(argument or None)
        self._print(line or "not recorded: make the graph inside `with tg.debug.tracing():`, or run a function.")

    def do_why(self, argument: str) -> None:
        """why X: the paths from X to the result, and the products of the slopes that its gradient sums."""
        self._print(repr(self.machine.why(_named_in(argument, "why w"))))

    def do_blame(self, argument: str) -> None:
        """blame: what spoilt the gradients, and what usually helps."""
        self._print(repr(blame(self.machine.root, variables=self.machine.steps.variables)))

    def do_set(self, argument: str) -> None:
        """set X NUMBER: give a leaf another number, and compute again what depends on it: set a 3."""
        name, _, number = argument.replace("=", " ").strip().partition(" ")
        if not number:
            raise ValueError("set takes a leaf and a number: set a 3.")
        self.machine.set(name, float(NodeExpression(number.strip(), self.machine, self.scope).value()))
        self._show()

    def do_draw(self, argument: str) -> None:
        """draw FILE.svg: write the picture of the graph with its slopes; without a name, into a temporary file."""
        from ..viz.drawing import draw

        steps, path = self.machine.steps, _path(argument, "graph.svg")
        picture = draw(steps.root, slopes=True, variables=steps.variables)
        path.write_bytes(picture.pipe(format=path.suffix[1:] or "svg"))
        self._print(f"wrote {path}")

    def do_live(self, argument: str) -> None:
        """live FILE.html: write the page on which numbers can be changed; without a name, a temporary file."""
        steps, path = self.machine.steps, _path(argument, "live.html")
        Live(steps.root, steps.variables, lines=source_lines(steps.order)).to_html(path)
        self._print(f"wrote {path}")

    # --- The prompt itself ----------------------------------------------------------------------------------

    def do_quit(self, argument: str) -> bool:
        """q(uit): leave the prompt, as Ctrl-D does."""
        return True

    def do_help(self, argument: str) -> None:
        """h(elp) COMMAND: what a command does; alone: all of them."""
        commands = {
            name[3:]: inspect.getdoc(function) for name, function in vars(Prompt).items() if name[:3] == "do_"
        }
        name = COMMANDS.get(argument, argument)
        if name and name not in commands:
            raise ValueError(f"there is no command {argument!r}: h shows them.")
        lines = [(text or "").partition("\n")[0] for text in [*commands.values(), Prompt.emptyline.__doc__]]
        self._print(commands[name] or "" if name else "\n".join(lines))

    def default(self, line: str) -> None:
        """A line that is no command is evaluated as Python over the nodes, as in pdb."""
        try:
            self._print(NodeExpression(line.removeprefix("!"), self.machine, self.scope).shown())
        except (SyntaxError, NameError) as error:
            if isinstance(error, SyntaxError) and ASSIGNMENT.match(line):
                raise ValueError("Nothing is assigned here: `set a 3` gives a leaf another number.") from None
            near = self.machine.named.similar(getattr(error, "name", "") or "?")
            raise ValueError(f"There is no command {line.split()[0]!r}: h shows them.{near}") from None

    def emptyline(self) -> bool:
        """Enter repeats the last command; at first it is n."""
        return self.onecmd(self.lastcmd or "n")

    def completedefault(self, text: str, line: str, begin: int, end: int) -> list[str]:
        """The names of nodes; a label such as layer0.w is completed as a whole, though readline stops at dots."""
        start = line[:end].split()[-1] if line[:end].strip() and not line[:end].endswith(" ") else ""
        skip = len(start) - len(text)
        return [name[skip:] for name in self.machine.named if name.startswith(start)]

    def _show(self, start: int | None = None, note: str = "") -> None:
        passed = 0 if start is None else self.machine.position - start
        if passed > 1 and not note:
            scope = ".".join(self.machine.scope(self.machine.current))
            note = f"{passed:,} steps" + f", to {scope}" * bool(scope)
        if note:
            self._print(note)
        self._print(self.machine.frame(paint=self._paint))
        self._watched()

    def _watched(self) -> None:
        for text, (expression, last) in self.watches.items():
            try:
                now = expression.shown()
            except Exception as error:
                now = f"({error})"
            self.watches[text] = expression, now
            shown = self._paint(f"{now} *") if last and last != now else now
            self._print(f"watch {text} = {shown}")

    def _paint(self, text: str) -> str:
        return f"{GREEN}{text}{PLAIN}" if self._colours else text

    def _print(self, text: str) -> None:
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"  # \u03bb where it has no λ
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=self.stdout)


@contextmanager
def _line_editor() -> Iterator[None]:
    """Python 3.13's REPL has a line editor of its own, and `cmd` asks the module `readline` to complete names."""
    module = sys.modules.get("_pyrepl.readline")
    known = sys.modules.get("readline")
    if module and getattr(builtins.input, "__module__", "") == module.__name__:
        editor: Any = SimpleNamespace(**{"backend": "readline", **vars(module)})
        sys.modules["readline"] = editor
    try:
        yield
    finally:
        if sys.modules.get("readline") is not known:
            sys.modules.pop("readline")
            if known:
                sys.modules["readline"] = known


def _within(module: str, scope: tuple[str, ...]) -> bool:
    """Is this module, by its own name or by its path, one of a node's modules?"""
    return f".{module}." in f".{'.'.join(scope)}."


def _true(question: Callable[[], Any]) -> bool:
    """Is the condition true? As long as its numbers are not computed, it is false. Raises other errors."""
    try:
        return bool(question())
    except (ArithmeticError, LookupError, ValueError):
        return False


def _named_in(argument: str, example: str) -> str:
    if not argument:
        raise ValueError(f"Name a node: {example}.")
    return argument


def _path(argument: str, name: str) -> Path:
    return Path(argument) if argument else Path(tempfile.mkdtemp(prefix="tinygrad-edu-")) / name
