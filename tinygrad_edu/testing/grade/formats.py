"""Grades for programs and for people: JSON, CSV, Gradescope, JUnit, and the summary of a class."""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from ...viz.words import visible
from .diagnosis import page
from .operations import listed
from .rubric import Rubric, read_points, texts_of
from .submissions import Submission

COUNTS = "{ok} of {submissions} have no mistake and nothing missing, {not_graded} could not be graded"
UNTITLED = ("unusable", "raises")  # the titles of these mistakes say nothing without their sentences
Grades = Sequence[Submission]


def written(grades: Grades, format: str, points: Rubric | None = None) -> str:
    """The grades in a format. One submission gives one object, several give a list or a table."""
    write = {"text": _text, "json": _json, "csv": _csv, "gradescope": _gradescope, "junit": _junit}[format]
    return write(grades, points)


def tests_of(grade: Submission, points: Rubric | None) -> list[dict[str, Any]]:
    """The items that are asked for, as Gradescope takes them."""
    most = read_points(points or dict.fromkeys(grade.report.items, 1))
    return [
        {"name": item, "score": got, "max_score": float(most[item]), "visibility": "visible"}
        | {"output": "right" if got == most[item] else _reason(grade, item)}
        for item, got in grade.report.earned(most).items()
    ]


def totals(grade: Submission, points: Rubric | None) -> dict[str, float]:
    """The score, and the most that there is."""
    return {key: sum(item[key] for item in tests_of(grade, points)) for key in ("score", "max_score")}


def _reason(grade: Submission, item: str) -> str:
    """Why an item has no points: the error, or the mistakes in its operations."""
    mistakes = grade.report.mistakes
    blamed = [mistake for mistake in mistakes if {*mistake.operations} & {*texts_of(item)}]
    if item == "backward" and not blamed:
        blamed = [mistake for mistake in mistakes if not mistake.operations] or mistakes
    return grade.error or "\n".join(map(str, blamed)) or "not yet"


def _json(grades: Grades, points: Rubric | None) -> str:
    records = [
        {"submission": grade.name, "error": grade.error or None}
        | totals(grade, points)
        | grade.report.to_dict()
        | {"ok": grade.ok}
        for grade in grades
    ]
    several = {"submissions": records, "summary": summary(grades)}
    return json.dumps(records[0] if len(grades) == 1 else several, indent=2)


def _gradescope(grades: Grades, points: Rubric | None) -> str:
    """The results.json that Gradescope reads."""
    results = [
        {"score": totals(grade, points)["score"], "output": grade.error or str(grade.report)}
        | {"tests": tests_of(grade, points)}
        for grade in grades
    ]
    return json.dumps(results[0] if len(results) == 1 else results, indent=2)


def _csv(grades: Grades, points: Rubric | None) -> str:
    rows = [
        {"submission": grade.name, "ok": grade.ok}
        | totals(grade, points)
        | {"mistakes": "; ".join(mistake.name for mistake in grade.report.mistakes)}
        | {"missing": listed(grade.report.missing, 99), "error": grade.error}
        | {item["name"]: item["score"] for item in tests_of(grade, points)}
        for grade in grades
    ]
    file = io.StringIO()
    table = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)), restval=0.0)
    table.writeheader()
    table.writerows(rows)
    return file.getvalue()


def _junit(grades: Grades, points: Rubric | None) -> str:
    suites = ElementTree.Element("testsuites")
    for grade in grades:
        name, kind, items = _legal(grade.name), "error" if grade.error else "failure", tests_of(grade, points)
        bad = [item for item in items if grade.error or item["score"] < item["max_score"]]
        counts = {"tests": str(len(items)), "failures": "0", "errors": "0"} | {f"{kind}s": str(len(bad))}
        suite = ElementTree.SubElement(suites, "testsuite", counts, name=name)
        for item in items:
            case = ElementTree.SubElement(suite, "testcase", name=item["name"], classname=name)
            if item in bad:
                ElementTree.SubElement(case, kind, message=_legal(grade.error or item["output"]))
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)


def _legal(text: str) -> str:
    """The text with escapes for the characters that XML cannot hold."""
    return "\n".join(map(visible, text.splitlines()))


# --- The class ------------------------------------------------------------------------------------------------


def summary(grades: Grades) -> dict[str, Any]:
    """How many are right, and how many have which misconception, each with its smallest program."""
    mistakes: dict[str, dict[str, Any]] = {}
    for grade in grades:
        for mistake in grade.report.mistakes:
            entry = mistakes.setdefault(mistake.name, {"title": mistake.title, "count": 0, "program": ""})
            entry["count"] += 1
            if mistake.program and (not entry["program"] or len(mistake.program) < len(entry["program"])):
                entry |= {"program": mistake.program, "submission": grade.name}
    missing = Counter(listed([text]) for grade in grades for text in grade.report.missing)
    return {
        "submissions": len(grades),
        "ok": sum(grade.ok for grade in grades),
        "not_graded": sum(bool(grade.error) for grade in grades),
        "mistakes": dict(sorted(mistakes.items(), key=lambda item: -item[1]["count"])),
        "missing": dict(missing.most_common()),
    }


def _line(grade: Submission, points: Rubric | None, width: int) -> str:
    """Name, score and verdict of a submission."""
    report, score = grade.report, "{score:g} of {max_score:g}".format(**totals(grade, points))
    parts = [f"{m.title}: {m.sentence}" if m.name in UNTITLED else m.title for m in report.mistakes]
    parts += [f"lacks {listed(report.missing, 99)}"] * bool(report.missing)
    parts = [grade.error] if grade.error else parts or ["right"]
    parts += [note for note in report.notes if note.startswith("cell ")]
    return f"{visible(grade.name):{width}}  {score:>9}  {visible('; '.join(parts))}"


def _text(grades: Grades, points: Rubric | None) -> str:
    if len(grades) == 1 and not grades[0].error:
        score = "\nscore   {score:g} of {max_score:g}".format(**totals(grades[0], points))
        return f"{grades[0].report}" + score * (points is not None)
    width, told = max(len(visible(grade.name)) for grade in grades), summary(grades)
    lines = [*(_line(grade, points, width) for grade in grades), "", COUNTS.format(**told)]
    for mistake in told["mistakes"].values():
        lines.append(f"{mistake['count']:4}  {mistake['title']}")
        lines += [f"        {line}" for line in mistake["program"].splitlines()]
    return "\n".join([*lines, *(f"{count:4}  without {text}" for text, count in told["missing"].items())])


def to_html(grades: Grades, points: Rubric | None = None) -> str:
    """The text as a page: a line for each submission, then the misconceptions, with one example each."""
    return page(f"{len(grades)} submissions", _text(grades, points))
