"""Random rules, right ones and wrong ones: none that is wrong is certified, none that is right refuted."""

import random

import pytest

pytest.importorskip("flint")

from made_rules import KINDS, Made, check_of, is_right_at, made_of, proof_of  # after the check that flint is there


def made(kind: str, seed: int) -> Made:
    return made_of(kind, random.Random(f"{kind} {seed}"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_where_it_is_said_to_be(kind: str) -> None:
    one = made(kind, 0)
    assert not is_right_at(one.rule, one.point, one.upstream)
    assert is_right_at(
        made("right", 0).rule, tuple(0.3 + 0.2 * i for i in range(made("right", 0).rule.n_inputs or 1))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_wrong_rule_is_certified(kind: str) -> None:
    verdicts = [proof_of(made(kind, seed), 1) for seed in range(2)]
    assert "certified" not in verdicts
    assert "refuted" in verdicts


def test_no_right_rule_is_refuted() -> None:
    verdicts = [proof_of(made("right", seed), 3) for seed in range(2)]
    assert "refuted" not in verdicts
    assert "certified" in verdicts


@pytest.mark.slow
def test_check_rule_accuses_no_right_rule_and_finds_wrong_ones() -> None:
    assert check_of(made("right", 1), 5) != "wrong"
    assert all(check_of(made(kind, 1), 5) == "wrong" for kind in ("at a point", "in an operand", "upstream"))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["right", *KINDS])
def test_500_right_and_500_wrong(kind: str) -> None:
    for seed in range(500 if kind == "right" else 72):
        one = made(kind, 1000 + seed)
        false = ("refuted", "wrong") if kind == "right" else ("certified",)
        assert proof_of(one, 2.0) not in false, one.text
        assert check_of(one, 2.0) not in false, one.text
