"""check and prove: verdicts on the rules of a module, for a reader, a program or a CI."""

import importlib
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

from .. import testing
from ..engine.rule import RULES, Rule


def run(options: Namespace) -> int:
    """Print a verdict on each rule. Returns 0 if all are right, 1 if one is not.

    Raises ValueError for an unknown module or rule.
    """
    examine = testing.check_rule if options.command == "check" else testing.prove_rule
    verdicts = [_verdict(rule, examine) for name in options.names for rule in _rules(name)]
    if options.format == "json":
        print(json.dumps([facts for facts, _ in verdicts], indent=1))
    elif options.format == "junit":
        print(_junit(options.command, verdicts))
    else:
        print("\n\n".join(text for _, text in verdicts))
    return 0 if all(facts["ok"] for facts, _ in verdicts) else 1


def _rules(text: str) -> Iterator[Rule]:
    """The rules that `module:rule`, `module` or the name of one of ours stands for."""
    name, _, rule = text.partition(":")
    if not rule and name in RULES:
        yield RULES[name]
        return
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r} is no module: name it as an import does, such as package.module:rule.")
    sys.path.insert(0, "")  # the folder where the command was called
    try:
        rules = testing.rules_of(importlib.import_module(name))
    except (ImportError, SyntaxError) as error:
        raise ValueError(f"{name!r} cannot be imported: {error}.") from None
    finally:
        sys.path.remove("")
    chosen = [r for r in rules if rule in ("", r.name)]
    if not chosen:
        there = f"there are {', '.join(r.name for r in rules)}" if rules else "there are none"
        raise ValueError(f"{name} has no rule{f' {rule!r}' if rule else ''}: {there}.")
    yield from chosen


def _verdict(rule: Rule, examine: Callable[[Rule], Any]) -> tuple[dict[str, Any], str]:
    """The facts about a rule, "ok" among them, and the text for a reader."""
    try:
        report = examine(rule)
        text = repr(report)
    except (AssertionError, TypeError, ValueError, TimeoutError) as error:
        report, text = getattr(error, "report", None), str(error)
    if report is None:
        return {"rule": rule.name, "ok": False, "error": text}, text
    return json.loads(report.to_json()), text


def _junit(command: str, verdicts: list[tuple[dict[str, Any], str]]) -> str:
    failures = sum(not facts["ok"] for facts, _ in verdicts)
    suite = ElementTree.Element("testsuite", name=command, tests=str(len(verdicts)), failures=str(failures))
    for facts, text in verdicts:
        test = ElementTree.SubElement(suite, "testcase", classname=command, name=facts["rule"])
        if not facts["ok"]:
            ElementTree.SubElement(test, "failure", message=text.splitlines()[0]).text = text
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
