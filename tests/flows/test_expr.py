"""Guards: what holds, what is unknown, and that no text and no value can make one raise anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import expr
from flows.expr import ExprError

KNOWN: dict[str, object] = {
    "day": "friday",
    "amount": 120.5,
    "attempts": 2,
    "free.found": True,
    "free.failed": False,
    "huge": 10**400,
    "half": 0.5,
    "born": "1980-05-31",
}


def holds(text: str) -> bool:
    return expr.holds(text, KNOWN.get)


@pytest.mark.parametrize(
    "guard",
    [
        "",
        "  ",
        "true",
        "free.found",
        "not free.failed",
        "not not free.found",
        "amount > 100",
        "amount >= 120.5 and attempts < 3",
        "day == 'friday'",
        'day == "friday"',
        "day != 'monday'",
        "day in ('monday', 'friday')",
        "day not in ('monday',  'tuesday')",
        "attempts + 1 == 3",
        "attempts - 3 == -1",
        "-attempts < 0",
        "1 - 1 - 1 == -1",
        "(free.failed or free.found) and attempts == 2",
        "free.failed or free.found and true",
        "true or false and false",
        "not free.failed and true",
        "not attempts == 3",
        "true or nobody.knows",
        "nobody.knows or true",
        "not (false and nobody.knows)",
        "born < '2000-01-01'",
        "free.found == true",
        "free.found != false",
    ],
)
def test_holds(guard: str) -> None:
    assert holds(guard)


@pytest.mark.parametrize(
    "guard",
    [
        "false",
        "free.failed",
        "unknown",
        "not unknown",
        "unknown == unknown",
        "unknown != 'a'",
        "unknown in ('a')",
        "unknown not in ('a')",
        "true and unknown",
        "not (true and unknown)",
        "false or unknown",
        "day",  # text is neither true nor false
        "attempts",
        "day > 3",  # types that do not fit
        "not (day > 3)",
        "day == 3",
        "day != 3",
        "not day",
        "free.found == 1",
        "free.found > false",
        "day + 1 == 2",
        "huge + half > 0",
        "-day == 1",
    ],
)
def test_does_not_hold(guard: str) -> None:
    assert not holds(guard)


def test_names_in_order_each_once() -> None:
    assert expr.names("a.b and (c > 1 or a.b) and not d.e.f in (g, 'h')") == ("a.b", "c", "d.e.f", "g")
    assert expr.names("") == ()
    assert expr.names("true and 1 < 2") == ()


@pytest.mark.parametrize(
    ("guard", "column", "part"),
    [
        ("a ==", 5, "too early"),
        ("a = 1", 3, "use =="),
        ("a && b", 3, "use and"),
        ("a || b", 3, "use or"),
        ("!a", 1, "use not"),
        ("a b", 3, "'b' is not expected"),
        ("(a", 3, "')' is missing"),
        ("a)", 2, "not expected"),
        ("a in b", 6, "'(' is missing"),
        ("a in ()", 7, "not expected"),
        ("a not b", 7, "'in' is missing"),
        ("1 < a < 3", 7, "do not chain"),
        ("a == 'x", 6, "quotation mark"),
        ("and", 1, "not expected"),
        ("f(1)", 2, "not expected"),
        ("a[0]", 2, "not part of"),
        ("__import__('os')", 11, "not expected"),
        ("a.", 2, "not part of"),
        ("a == 1 ; b", 8, "not part of"),
        ("a\0", 2, "not part of"),
        ("1and 2x", 7, "not expected"),
    ],
)
def test_errors_name_the_column(guard: str, column: int, part: str) -> None:
    with pytest.raises(ExprError) as caught:
        expr.check(guard)
    assert caught.value.column == column
    assert part in caught.value.message


def test_limits() -> None:
    deep = expr.MAX_NESTING
    expr.check("(" * deep + "a" + ")" * deep)
    for text in ("(" * (deep + 1) + "a" + ")" * (deep + 1), "not " * 60 + "a", "- " * 60 + "1", "a" * 501):
        with pytest.raises(ExprError):
            expr.check(text)
    long = " and ".join(["a"] * 70)
    assert expr.holds(long, lambda name: True)


TERMS = st.sampled_from([*KNOWN, "unknown", "1", "'x'", "(", ")", ",", "and", "or", "not", "in", "==", "<", "-"])
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(st.lists(TERMS, max_size=20).map(" ".join) | st.text(max_size=60), VALUES)
def test_any_text_and_value_gives_an_answer_or_an_expr_error(text: str, value: object) -> None:
    column = 1
    try:
        assert expr.holds(text, lambda name: value) in (True, False)
        assert isinstance(expr.names(text), tuple)
    except ExprError as error:
        column = error.column
    assert 1 <= column <= len(text) + 1


TRI = st.sampled_from([True, False, None])


@given(TRI, TRI, TRI)
def test_kleene_laws(a: bool | None, b: bool | None, c: bool | None) -> None:
    known = {"a": a, "b": b, "c": c}

    def same(left: str, right: str) -> None:
        for form in ("{}", "not ({})"):
            assert expr.holds(form.format(left), known.get) == expr.holds(form.format(right), known.get)

    same("not (a and b)", "not a or not b")
    same("a and (b or c)", "a and b or a and c")
    same("not not a", "a")
    same("a or b or c", "c or (b or a)")
