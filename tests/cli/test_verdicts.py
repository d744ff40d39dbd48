"""`tinygrad-edu check` and `prove`: the rules of somebody's module, for a reader and for a CI."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tinygrad_edu import RULES
from tinygrad_edu.cli import main
from tinygrad_edu.testing import rules_of

MODULE = """
import tinygrad_edu as tg

@tg.rule(backward=lambda upstream, out, x: (upstream * 2 * x,))
def my_square(x):
    return x * x

@tg.rule(backward=lambda upstream, out, x: (upstream * x,))
def my_mistake(x):
    return x * x
"""


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "their_rules.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    for name in ("my_square", "my_mistake"):
        monkeypatch.delitem(RULES, name, raising=False)
    monkeypatch.delitem(__import__("sys").modules, "their_rules", raising=False)
    return "their_rules"


def test_a_module_in_every_format(rules: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"{rules}:my_square"]) == 0
    assert "Rule('my_square') is right at" in capsys.readouterr().out
    assert main(["check", rules, "--format", "json"]) == 1
    wrong, right = json.loads(capsys.readouterr().out)
    assert (wrong["rule"], wrong["ok"], right["rule"], right["ok"]) == ("my_mistake", False, "my_square", True)
    assert wrong["failures"][0]["kind"] == "wrong formula"
    assert main(["check", rules, "--format", "junit"]) == 1
    suite = ElementTree.fromstring(capsys.readouterr().out)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert suite.find("testcase/failure").get("message") == "my_mistake: the slope for x is wrong"  # type: ignore[union-attr]  # it is there
    assert [rule.name for rule in rules_of(rules)] == ["my_mistake", "my_square"]


def test_prove(rules: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("flint")
    assert main(["prove", f"{rules}:my_square", "relu"]) == 0
    assert "my_square: certified, value within 0.5 ulps" in capsys.readouterr().out
    assert main(["prove", rules, "--format", "json"]) == 1
    wrong, right = json.loads(capsys.readouterr().out)
    assert wrong["error"].startswith("my_mistake is refuted: at 0.83 the slope for x is 0.82999")
    assert right["slope_ulps"] == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their_rules:other", "their_rules has no rule 'other': there are my_mistake, my_square."),
        ("nowhere:x", "'nowhere' cannot be imported: No module named 'nowhere'."),
        ("json", "json has no rule: there are none."),
    ],
)
def test_no_such_rule(rules: str, name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", name]) == 2
    assert message in capsys.readouterr().err
