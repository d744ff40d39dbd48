"""The command step: walk through backpropagation, from the keyboard or a pipe."""

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from ..debug import Machine
from .expression import Expression

HELP = "n next   b back   g NUMBER go to a step   p print   r run to the end   q quit"


def step_through(text: str, assignments: Sequence[str], commands: Iterable[str], out: TextIO = sys.stdout) -> None:
    """Drive a `Machine` by lines of text, one command each; an empty line is n.

    Raises ExpressionError as `Expression` does.
    """
    machine = Machine(Expression(text).graph(assignments))
    print(machine, f"\n{HELP}", sep="\n", file=out)
    for line in commands:
        command, _, argument = line.strip().partition(" ")
        try:
            match command:
                case "" | "n":
                    machine.next()
                case "b":
                    machine.back()
                case "r":
                    machine.run()
                case "g" if argument.isdecimal():
                    machine.goto(int(argument))
                case "g":
                    raise ValueError("g takes the number of a step: g 2")
                case "q":
                    return
                case "p":
                    pass
                case _:
                    raise ValueError(f"There is no command {command!r}: {HELP}")
        except ValueError as error:
            print(error, file=out)
        else:
            print(machine, file=out)
        print(file=out)
