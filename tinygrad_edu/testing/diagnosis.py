"""`diagnose`: what somebody's engine does right, and what its author misunderstood."""

import json
import math
import os
import textwrap
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..live import live
from .examination import Examination, Finding, solved
from .learner import Learner

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}, diagnosed</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.4 system-ui, sans-serif; margin: 1rem }}
pre {{ white-space: pre-wrap }}
iframe {{ border: 0; width: 100%; height: 40rem }}
</style>
<h1>{title}</h1>
{body}
</html>
"""
WIDTH, SHOWN = 100, 2  # columns of a screen, mistakes that are shown with their programs


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` found. `print` shows it on one screen."""

    engine: str
    right: list[str]
    mistakes: list[Finding]
    limits: list[Finding]
    unlimited: str = ""

    @property
    def ok(self) -> bool:
        """Are there no mistakes? Limits are allowed."""
        return not self.mistakes

    def check(self) -> "Diagnosis":
        """Returns the diagnosis. Raises AssertionError with its text if there is a mistake."""
        if self.mistakes:
            raise AssertionError(f"\n{self}")
        return self

    def __repr__(self) -> str:
        lines = [f"{self.engine}: {_count(len(self.mistakes), 'mistake')}, {_count(len(self.limits), 'limit')}"]
        lines += _folded("right", "; ".join(self.right))
        for place, mistake in enumerate(self.mistakes):
            lines += _folded("WRONG", str(mistake))
            if mistake.program and place < SHOWN:
                lines += [f"    {line}" for line in mistake.program.splitlines()]
                lines += textwrap.wrap(mistake.step, WIDTH, initial_indent="    ", subsequent_indent="    ")
        for limit in self.limits:
            lines += _folded("limit", str(limit))
        if self.unlimited:
            lines += _folded("note", f"this system did not limit the {self.unlimited} of the engine")
        return "\n".join(lines)

    def to_json(self) -> str:
        """The diagnosis as JSON: engine, ok, right, mistakes, limits, unlimited."""
        found = asdict(self) | {"ok": self.ok}
        for each, finding in zip(found["mistakes"] + found["limits"], self.mistakes + self.limits, strict=True):
            del each["graph"]
            each["text"] = str(finding)
            each["got"] = each["got"] if finding.got is None or math.isfinite(finding.got) else str(finding.got)
        return json.dumps(found, indent=2)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """A page with the text, and below it the graph of each mistake, live. Writes it to path, if one is given.

        Raises OSError.
        """
        parts = [f"<pre>{escape(str(self))}</pre>"]
        for mistake in self.mistakes:
            if mistake.graph:
                title, page = escape(str(mistake)), escape(live(solved(mistake.graph)[-1]).to_html())
                parts.append(f"<h2>{title}</h2>\n<pre>{escape(mistake.program)}</pre>")
                parts.append(f'<iframe srcdoc="{page}" title="{title}"></iframe>')
        text = PAGE.format(title=escape(self.engine), body="\n".join(parts))
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text


def _count(n: int, what: str) -> str:
    return f"{n or 'no'} {what}{'s' * (n != 1)}"


def _folded(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{head:6}", subsequent_indent=" " * 6)


def diagnose(engine: Any, *, seconds: float = 10, megabytes: int = 512, seed: int = 0) -> Diagnosis:
    """What somebody's engine does right, and what its author misunderstood, each with the smallest program.

    engine is a class in micrograd's manner, a module or a dict with a class and functions, or the path of a file.
    It may have any subset of the operations, and names of its own. It runs in another process, which has `seconds`
    of processor time and `megabytes` of memory: no sandbox, but it cannot hang this one. macOS does not limit
    memory. Where processes do not fork (Windows), the engine runs here, without limits. `unlimited` says so.

    `mistakes` has what gives wrong numbers in one backward pass, `limits` what else is missing: operators, depth,
    two roots. `check()` raises AssertionError if there is a mistake. seed draws the random programs.

    Raises ValueError if there is no engine to be run: no such file, no class in it.

    >>> from tinygrad_edu import micrograd
    >>> diagnose(micrograd.engine.Value).mistakes
    []
    """
    if isinstance(engine, str | os.PathLike):
        engine = Path(engine)
        if not engine.is_file():
            raise ValueError(f"There is no file {str(engine)!r}.")
    learner = Learner(engine, seconds, megabytes)
    try:
        exam = Examination(learner, seed)
        exam.run()
    finally:
        learner.close()
    found = list(exam.found.values())
    return Diagnosis(learner.spelling.name, exam.right, found, exam.limits, learner.unlimited)
