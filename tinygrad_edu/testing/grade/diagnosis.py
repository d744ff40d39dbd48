"""`diagnose`: what somebody's engine does right, and what its author misunderstood."""

import json
import os
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ...page import live
from ...viz.rich import Report
from .examination import Examination, Remark
from .operations import TEXTS, listed, solved
from .process import EngineProcess
from .rubric import DEFAULT, Rubric, items_of, missing_of, read_points, texts_of

__tracebackhide__ = True  # pytest shows the user's line, not ours

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.4 system-ui, sans-serif; margin: 1rem }}
pre {{ white-space: pre-wrap }}
iframe {{ border: 0; width: 100%; height: 40rem }}
</style>
<h1>{title}</h1>
<pre>{text}</pre>
{rest}
</html>
"""
LECTURE = {"depth", "interior"}  # what the engine of the lecture does not do either
WIDTH, SHOWN = 100, 2  # columns of a screen, mistakes that are shown with their programs


@dataclass(frozen=True, repr=False)
class Diagnosis(Report):
    """What `diagnose` found. `print` shows it on one screen.

    `operations` says whether each operation that is there or asked for is right, and whether "backward" is.
    `missing` is what is asked for and not there, `notes` the cells of a notebook that fail, and what always fails.
    """

    engine: str
    right: list[str]
    mistakes: list[Remark]
    limits: list[Remark]
    unlimited: str = ""
    operations: dict[str, bool] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    items: tuple[str, ...] = DEFAULT
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Is there no mistake, and nothing missing? Limits are allowed."""
        return not self.mistakes and not self.missing

    def check(self) -> "Diagnosis":
        """Returns the diagnosis. Raises AssertionError with its text if it is not ok."""
        if not self.ok:
            raise AssertionError(f"\n{self}")
        return self

    def earned(self, points: Rubric | None = None) -> dict[str, float]:
        """The points of each item: all of them if its operations are right, or none.

        points is a dict such as {"+": 2, "tanh": 1, "backward": 3}, or a TOML file; without it, each item that is
        asked for has 1. Raises ValueError for an unknown operation.
        """
        points = read_points(points if points is not None else dict.fromkeys(self.items, 1))
        return {item: float(value) * self._holds(item) for item, value in points.items()}

    def score(self, points: Rubric | None = None) -> float:
        """The sum of the points that were earned."""
        return sum(self.earned(points).values())

    def _holds(self, item: str) -> bool:
        texts = [text.replace(" ", "") for text in texts_of(item)] or [item]
        if " or " in item:  # one of them is enough, if those that are there are right
            texts = [text for text in texts if text in self.operations] or texts
        return all(self.operations.get(text, False) for text in texts)

    def __repr__(self) -> str:
        limits = [limit.name for limit in self.limits if limit.name != "missing"]
        counts = [_count(len(self.mistakes), "mistake"), _count(len(limits), "limit")]
        if self.missing:
            counts.insert(1, _count(len(self.missing), "missing operation"))
        elif limits and {*limits} <= LECTURE:
            counts[1] += ", as the lecture's engine has"
        lines = [f"{self.engine}: {', '.join(counts)}", *_folded("right", "; ".join(self.right))]
        for place, mistake in enumerate(self.mistakes):
            lines += _folded("not yet", str(mistake))
            if mistake.program and place < SHOWN:
                lines += [f"    {line}" for line in mistake.program.splitlines()]
                lines += textwrap.wrap(mistake.step, WIDTH, initial_indent="    ", subsequent_indent="    ")
        for limit in self.limits:
            lines += _folded("not yet" if limit.name == "missing" else "limit", str(limit))
        unlimited = [f"this system did not limit the {self.unlimited} of the engine"] * bool(self.unlimited)
        return "\n".join([*lines, *(line for note in (*self.notes, *unlimited) for line in _folded("note", note))])

    def to_json(self) -> str:
        """The diagnosis as JSON: engine, ok, right, mistakes, limits, unlimited, operations, missing, notes."""
        return json.dumps(self.to_dict(), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """What `to_json` writes."""
        remarks = {name: [each.to_dict() for each in getattr(self, name)] for name in ("mistakes", "limits")}
        return vars(self) | remarks | {"ok": self.ok}

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """A page with the text, and below it the graph of each mistake, live. Writes it to path, if one is given.

        Raises OSError.
        """
        parts = []
        for mistake in self.mistakes:
            if mistake.graph:
                title, graph = escape(str(mistake)), escape(live(solved(mistake.graph)[-1]).to_html())
                parts.append(f"<h2>{title}</h2>\n<pre>{escape(mistake.program)}</pre>")
                parts.append(f'<iframe srcdoc="{graph}" title="{title}"></iframe>')
        text = page(self.engine, str(self), "\n".join(parts))
        if path is not None:
            Path(path).write_text(text, encoding="utf-8", errors="backslashreplace")
        return text


def page(title: str, text: str, rest: str = "") -> str:
    """A page of HTML with a text, and more HTML below it."""
    return PAGE.format(title=escape(title), text=escape(text), rest=rest)


def _count(n: int, what: str) -> str:
    return f"{n or 'no'} {what}{'s' * (n != 1)}"


def _folded(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{head:8}", subsequent_indent=" " * 8)


def diagnose(
    engine: Any,
    *,
    require: str | Iterable[str] | None = None,
    seconds: float = 6,
    megabytes: int = 512,
    seed: int = 0,
) -> Diagnosis:
    """What somebody's engine does right, and what its author misunderstood, each with the smallest program.

    engine is a class in micrograd's manner, a module or a dict with a class and functions, or the path of a file.
    It may have names of its own. It runs in another process, which has `seconds` for all its answers, and
    `megabytes` of memory: no sandbox, but it cannot hang this one, and the processes that it starts end with it.
    macOS does not limit memory. Where processes do not fork (Windows), the engine runs here, without limits.
    `unlimited` says so.

    `mistakes` has what gives wrong numbers in one backward pass, `missing` what is asked for and not there,
    `limits` other weaknesses: depth, two roots. `check()` raises AssertionError for the first two.
    require is what is asked for, such as "+ * tanh backward"; without it, all operators, also with numbers on
    either side, and one of tanh and relu. seed draws the random programs.

    Raises ValueError if there is no engine to be run, as in a file without a class, or for an unknown operation.

    >>> from tinygrad_edu import micrograd
    >>> diagnose(micrograd.engine.Value).mistakes
    []
    """
    items = items_of(require)
    process = EngineProcess(engine, seconds, megabytes)
    try:
        exam = Examination(process, seed)
        exam.run()
    finally:
        process.close()
    fine, spelling = exam.fine(), process.spelling
    there = [*exam.spelled, *(text for mistake in exam.mistakes.values() for text in mistake.operations)]
    missing = missing_of(items, there)
    operations = {text.replace(" ", ""): text in fine for text in TEXTS if text in exam.spelled or text in missing}
    wrong = exam.everywhere or exam.mistakes.keys() & {"unusable", "borrowed", "root"}
    if "unusable" in exam.mistakes:  # nobody knows what it has
        missing = ()
    notes = list(spelling.notes)
    for text, error in exam.fails.items():
        if text in missing or (text.endswith("(a)") and text not in there and "AssertionError" not in error):
            notes.append(f"{text.replace(' ', '')} fails: {error}")
    limits = exam.limits
    if missing and exam.spelled:
        limits = [Remark("missing", f"missing operators: {listed(missing, 99)}"), *limits]
    return Diagnosis(
        spelling.name,
        exam.right,
        list(exam.mistakes.values()),
        limits,
        process.unlimited,
        operations | {"backward": not wrong},
        missing,
        items,
        tuple(notes),
    )
