from __future__ import annotations

import gc
import json
import sys
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulfillment.definitions.expressions import (
    MAXIMUM_LENGTH,
    ExpressionFailed,
    ExpressionInvalid,
    compile_condition,
    compile_expression,
)

NAMES = {
    "order.region": "string",
    "order.total": "number?",
    "order.promised_at": "string?",
    "order.customer.tier": "string",
    "item.quantity": "integer",
    "item.price.one_off": "string?",
    "item.characteristics": "object",
    "items": "list(object)",
    "items.quantity": "list(integer)",
    "items.price.one_off": "list(string?)",
    "items.characteristics": "list(object)",
    "tasks.extract.partitions": "list",
    "tasks.extract.share": "number",
    "tasks.extract.clean": "boolean?",
    "element": "any",
    "inputs.customer": "object?",
    "plan.created_at": "string",
}
VALUES: dict[str, Any] = {
    "order": {"region": "AT", "total": 999.99, "promised_at": None, "customer": {"tier": "gold"}},
    "item": {
        "quantity": 5,
        "price": {"one_off": "19.90"},
        "characteristics": {
            "agents": 20,
            "größe": "L",
            "lines": [{"n": 1}, {"n": 2}],
            "none": None,
        },
    },
    "items": [
        {"quantity": 1, "price": {"one_off": "12.30"}, "characteristics": {"agents": 3}},
        {"quantity": 2, "price": None, "characteristics": {}},
    ],
    "tasks": {"extract": {"partitions": ["a", "b"], "share": 3}},
    "element": {"id": 7, "rows": [1, 2.5, None]},
    "inputs": {},
    "plan": {"created_at": "2026-03-29T00:30:00+00:00"},
}


def value_of(text: str, **changes: Any) -> Any:
    return compile_expression(text=text, names=NAMES).evaluate({**VALUES, **changes})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("order.region in ['AT', 'DE']", True),
        ("order.total < 1000", True),
        ("order.total * 2 + 1", 2000.98),
        ("order.total == null || order.total < 500.5", False),
        ("order . region", "AT"),
        ("item.quantity * 1.5", 7.5),
        ("item.quantity / 2", 2),
        ("sum(items.quantity)", 3),
        ("sum(['12.30', '7.05'].map(one, double(one))) == 19.35", True),
        ("sum([0.1, 0.2]) == 0.3", True),
        ("sum(element.rows.filter(one, one != null)) + sum([])", 3.5),
        ("math.greatest(items.quantity) - math.least(items.quantity)", 1),
        ("tasks.extract.share / 2", 1.5),
        ("tasks.extract.share == 3", True),
        ("double(item.price.one_off) * double(item.quantity) < 100", True),
        ("order.promised_at == null", True),
        ("order.promised_at", None),
        ("order.promised_at != null && order.promised_at > '2026'", False),
        ("tasks.extract.clean == true", False),
        ("inputs.customer == null", True),
        ("has(item.characteristics.fibre)", False),
        ("has(item.characteristics.none)", True),
        ("item.characteristics.?fibre.orValue('none')", "none"),
        ("item.characteristics['größe'] + '!'", "L!"),
        ("item.characteristics.lines.map(line, line.n * 10)", [10, 20]),
        ("items.exists(one, one.quantity > 1)", True),
        ("items.filter(one, one.quantity == 1).map(one, one.price.one_off)", ["12.30"]),
        ("items.map(one, one.characteristics.?agents.orValue(0))", [3, 0]),
        ("items.quantity.all(one, one > 0)", True),
        ("items.price.one_off.exists(one, one == null)", True),
        ("items.quantity", [1, 2]),
        ("tasks.extract.partitions.size()", 2),
        ("{'id': element.id, 'rows': element.rows}", {"id": 7, "rows": [1, 2.5, None]}),
        ("element.rows[1] > element.rows[0]", True),
        ("order.region.lowerAscii() + '-' + string(item.quantity)", "at-5"),
        ("'a, b'.split(', ')", ["a", "b"]),
        ("[order.region, 'DE'].join('+')", "AT+DE"),
        ("math.round(order.total)", 1000.0),
        ("timestamp(plan.created_at) + duration('24h')", "2026-03-30T00:30:00Z"),
        ("timestamp(plan.created_at).getHours('Europe/Vienna')", 1),
        ("(timestamp(plan.created_at) - timestamp('2026-03-29T00:00:00Z')).getMinutes()", 30),
        ("[1, 'two', 3.5, null, {'four': [true]}]", [1, "two", 3.5, None, {"four": [True]}]),
        ("'${' + \"}\" + '\\''", "${}'"),
        ("element.lines.map(order, order.region)", ["local"]),
        ("1 // the only one", 1),
    ],
)
def test_expressions_have_values(text: str, expected: Any) -> None:
    element = {**VALUES["element"], "lines": [{"region": "local"}]}
    found = value_of(text, element=element)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "names", "returns"),
    [
        ("order.total < 1000 && order.region == 'AT'", {"order.total", "order.region"}, "boolean"),
        ("order.promised_at", {"order.promised_at"}, "string?"),
        ("order.total", {"order.total"}, "number?"),
        ("item.quantity + 1", {"item.quantity"}, "integer"),
        ("sum(items.quantity)", {"items.quantity"}, "integer"),
        ("sum(items.map(one, double(one.quantity)))", {"items"}, "number"),
        ("sum(element.rows)", {"element"}, "any"),
        ("items.map(one, one.quantity)", {"items"}, "list"),
        ("items.quantity[0]", {"items.quantity"}, "integer"),
        ("item.characteristics.agents", {"item.characteristics"}, "any"),
        ("{'a': 1}", set(), "object"),
        ("timestamp(plan.created_at)", {"plan.created_at"}, "string"),
        ("'order.region is text'", set(), "string"),
        ("['x'].map(order, order + element.y)", {"element"}, "list"),
        ("null", set(), "null"),
    ],
)
def test_an_expression_says_what_it_reads_and_what_it_gives(
    text: str, names: set[str], returns: str
) -> None:
    expression = compile_expression(text=text, names=NAMES)
    assert expression.names == names
    assert expression.returns == returns


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tasks.extract.partitons", "did you mean tasks.extract.partitions?"),
        ("order.regoin == 'AT'", "did you mean order.region?"),
        ("order.customer.teir == 'x'", "did you mean order.customer.tier?"),
        ("payment.id", "known: element, inputs, item, items, order, plan, tasks"),
        ("items.exists(one, one.quantty > 1)", "did you mean items.quantity?"),
        ("items.exists(one, one['quantty'] > 1)", "did you mean items.quantity?"),
        ("items.exists(one, one.?quantty.hasValue())", "did you mean items.quantity?"),
        ("items[0].price.oneoff == 'x'", "did you mean items.price.one_off?"),
        ("items.filter(one, true).all(two, two.qantity > 0)", "did you mean items.quantity?"),
        ("items.all(one, one.quantity.amount > 0)", "there is no 'items.quantity.amount'"),
        ("sum(['a'])", "sum can't take (list(string))"),
        ("sum(item.quantity)", "sum can't take (integer)"),
        ("order.region > 3", "'>' can't take (string, integer) (at character 14)"),
        ("order.region == null", "'==' can't take (string, null)"),
        ("order.region.code", "string has no members"),
        ("items.quantity > 1", "'>' can't take (list(integer), integer)"),
        ("now()", "there is no function now()"),
        ("order.region.reversed()", "there is no function reversed()"),
        ("1 +", "it ends too early (at character 4)"),
        ("order.region ==\n  = 'AT'", "(at line 2, character 3)"),
        ("", "it ends too early"),
        ("'open", "is not understood"),
        ("größe", "is not understood"),
        ("order.region ? 1 : 2", "'? :' can't take (string, integer, integer)"),
        ("has(order.promised_at)", "write order.promised_at != null"),
        ("has( order . region ) && true", "write order.region != null"),
        ("duration('1h')", "of a kind that JSON does not have"),
        ("b'bytes'", "of a kind that JSON does not have"),
        ("type(1)", "of a kind that JSON does not have"),
        ("item.characteristics.?fibre", "of a kind that JSON does not have"),
        ("'%s'.format([order.region])", "format() is not allowed here"),
        ("1 / 0", "it fails: divide by zero"),
        ("1 / 0.0", "is not a finite number"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("99999999999999999999", "invalid integer literal"),
        ("{1: 'a'}", "a key that is not a text"),
        ("{{'a': 1}: 2}", "Unsupported object key type"),
        ("'nul \\u0000'", "characters that no text may have"),
        ("\ud800", "is not a valid expression"),
    ],
)
def test_what_is_wrong_is_found_when_it_is_compiled(text: str, reason: str) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        compile_expression(text=text, names=NAMES)
    assert reason in str(caught.value)
    assert caught.value.code == "fulfillment.expression_invalid"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("item.quantity / (item.quantity - 5)", "divide by zero"),
        ("1.0 / double(item.quantity - 5)", "is not a finite number"),
        ("order.total / (item.quantity - 5)", "is not a finite number"),
        ("item.characteristics.fibre", 'there is no "fibre"'),
        ("element.rows[9]", "there is no [9] in a list of 3"),
        ("element.id.deeper", "what is not an object has no members"),
        ("sum([element.rows[0], order.promised_at])", "sum() can't take null"),
        ("sum([dyn(order.region), dyn(1)])", "sum() can't take what is no number (str)"),
        ("sum([9223372036854775807, item.quantity])", "beyond 64 bits"),
        ("order.promised_at > '2026'", "something is null here, so test that first"),
        ("element.id && true", "can't take"),
        ("element.rows[0] + 'x'", "'+' can't take (integer, string)"),
        ("double(order.region)", "cannot convert string to number"),
        ("timestamp(order.region)", "String to Timestamp conversion failed"),
        ("item.quantity * 9223372036854775807", "integer overflow"),
        ("[duration('1h'), order.region]", "of a kind that JSON does not have"),
        ("[optional.of(order.region)]", "of a kind that JSON does not have"),
        ("{item.quantity: 1}", "a key that is not a text"),
        ("order.region + '\\u0000'", "characters that no text may have"),
    ],
)
def test_what_goes_wrong_with_the_values_is_told_with_the_expression(
    text: str, reason: str
) -> None:
    with pytest.raises(ExpressionFailed) as caught:
        value_of(text)
    assert reason in str(caught.value)
    assert text in str(caught.value) or repr(text) in str(caught.value)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (2**63, "beyond 64 bits"),
        ({"deep": [-(2**63) - 1]}, "beyond 64 bits"),
        (10**400, "beyond 64 bits"),
        (float("nan"), "infinite number"),
        ([float("-inf")], "infinite number"),
        ("cut\0here", "characters that no text may have"),
        ("\ud800", "characters that no text may have"),
        ({"\udfff": 1}, "a key that is not a text"),
        ({1: 2}, "a key that is not a text"),
        (nested(65), "nested more than 64 levels"),
        (nested(200_000), "nested more than 64 levels"),
        (Decimal("1.5"), "a Decimal, which is not JSON"),
        (b"bytes", "a bytes, which is not JSON"),
        ("x" * 1_000_001, "more than 1,000,000 characters"),
    ],
)
def test_values_that_the_library_can_not_hold_are_refused(value: Any, reason: str) -> None:
    with pytest.raises(ExpressionFailed) as caught:
        value_of("element", element=value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), nested(60), "é😀\n", (1, (2,)), 1e300])
def test_values_at_the_limits_pass(value: Any) -> None:
    assert value_of("element", element=value) == json.loads(json.dumps(value))


def test_nulls_are_handed_out_without_using_up_python_s_own() -> None:
    # The library takes one reference too many for each null that it hands out, and a process
    # whose None has none left dies on the spot.
    texts = ("element", "[element]", "{'a': element}", "items.map(one, null)", "element == null")
    texts += ("sum([element])",)
    expressions = [compile_expression(text=text, names=NAMES) for text in texts]
    # What earlier tests have left behind holds nulls, too: it goes before, and none while counting.
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(None)
        for _ in range(1_000):
            for expression in expressions:
                with suppress(ExpressionFailed):  # A sum of nulls is none.
                    expression.evaluate({**VALUES, "element": None})
        assert before - sys.getrefcount(None) < 500
    finally:
        gc.enable()


def test_a_declared_value_that_is_not_there_is_named() -> None:
    with pytest.raises(ExpressionFailed, match=r"order\.region has no value"):
        value_of("order.region == 'AT'", order={})
    with pytest.raises(ExpressionFailed, match=r"order\.region has no value"):
        value_of("order.region == 'AT'", order={"region": None})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("element.all(a, element.all(b, element.all(c, a + b + c >= 0)))", 1_000),
        ("element.map(a, element.map(b, element.map(c, c)))", 1_000),
        ("element.map(a, a + 1)", 9_900),
        ("element.all(a, a >= 0)", 10_001),
        ("element.map(a, element)", 2_000),
        ("element.map(a, order.region + order.region)", 1_500),
        ("element.all(a, order.region.contains('b' + string(a)))", 9_000),
        ("element.all(a, order.region.matches('(a{1,500}b{1,400}){0,2}' + string(a)))", 9_000),
        ("element.map(a, [a, a])" + ".map(a, [a, a])" * 25 + " == element", 100),
        ("[order.region]" + ".map(a, a + a)" * 28 + ".size() > element.size()", 1),
        ("[order.region]" + ".map(a, a.replace('a', 'aaaaaaaaaa'))" * 25, 1),
        ("[element]" + ".map(a, a + a)" * 25, 10),
        ("element.map(a, element.map(b, element))", 300),
        ("element.map(a, sum(element))", 4_000),
        ("element.all(a, element.all(b, sum(element) > a + b))", 90),
    ],
)
def test_hostile_expressions_are_refused_or_fail_and_never_run_away(text: str, size: int) -> None:
    values = {**VALUES, "element": list(range(size)), "order": {"region": "a" * 50_000}}
    with pytest.raises((ExpressionInvalid, ExpressionFailed)):
        compile_expression(text=text, names=NAMES).evaluate(values)


@pytest.mark.parametrize(
    "text",
    [
        "items.all(a, items.exists(b, items.filter(c, c.quantity > 1).size() > 0))",
        "element.filter(a, a > 5).map(a, {'a': a, 'square': a * a})",
        "element.all(a, a >= 0)",
    ],
)
def test_ordinary_loops_over_thousands_of_elements_run(text: str) -> None:
    assert value_of(text, element=list(range(2_000))) not in (None, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"'{'a' * MAXIMUM_LENGTH}'", "at most 2,000 are allowed"),
        ("(" * 40 + "1" + ")" * 40, "nested too deeply"),
        ("[" * 900 + "]" * 900, "nested too deeply"),
        ("1" + " + 1" * 200, "nested too deeply"),
        ("element" + ".a" * 200, "nested too deeply"),
        ("true ? 1 : " * 100 + "1", "nested too deeply"),
        (
            "[1].all(a, [1].all(b, [1].all(c, [1].all(d, item.quantity > a + b + c + d))))",
            "more than 3 loops run inside each other",
        ),
        (
            "order.region == 'AT' || L.all(a, L.all(b, L.all(c, a + b + c > 0)))".replace(
                "L", str(list(range(30)))
            ),
            "whatever the values are",
        ),
    ],
)
def test_size_and_nesting_are_limited_when_it_is_compiled(text: str, reason: str) -> None:
    with pytest.raises(ExpressionInvalid) as caught:
        compile_expression(text=text, names=NAMES)
    assert reason in str(caught.value)


def test_the_result_is_limited_in_size() -> None:
    with pytest.raises(ExpressionFailed, match="more than 1,000,000 characters"):
        value_of("element + element + element", element="x" * 400_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("order.total < 1000", True), ("element.id == 8", False), ("element.rows[2] == null", True)],
)
def test_a_condition_holds_or_does_not(text: str, expected: bool) -> None:
    assert compile_condition(text=text, names=NAMES).holds(VALUES) is expected


@pytest.mark.parametrize("text", ["element.id", "element.rows[2]", "element.rows", "element['id']"])
def test_a_condition_that_is_neither_true_nor_false_fails(text: str) -> None:
    with pytest.raises(ExpressionFailed, match="a condition is true or false"):
        compile_condition(text=text, names=NAMES).holds(VALUES)


@pytest.mark.parametrize(
    "text", ["order.region", "item.quantity", "tasks.extract.clean", "[true]", "null", "'true'"]
)
def test_what_can_not_be_a_condition_is_refused(text: str) -> None:
    with pytest.raises(ExpressionInvalid, match="used as a condition"):
        compile_condition(text=text, names=NAMES)


def test_the_same_text_means_what_the_names_around_it_say() -> None:
    whole = compile_expression(text="n / 2", names={"n": "integer"})
    broken = compile_expression(text="n / 2", names={"n": "number"})
    assert whole.evaluate({"n": 3}) == 1
    assert broken.evaluate({"n": 3}) == 1.5
    with pytest.raises(ExpressionInvalid):
        compile_expression(text="n / 2", names={"m": "number"})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcäß-"), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_passes_through_unchanged(value: Any) -> None:
    found = value_of("[element][0]", element=value)
    assert json.dumps(found, sort_keys=True) == json.dumps(value, sort_keys=True)


@given(json_values, json_values)
def test_equality_never_fails(one: Any, other: Any) -> None:
    assert value_of("element == element", element=one) is True
    assert value_of("element[0] != element[1]", element=[one, other]) in (True, False)


@given(st.decimals(0, 99_999_999, places=2), st.decimals(0, 99_999_999, places=2))
def test_prices_compare_as_the_decimals_that_they_are(one: Decimal, other: Decimal) -> None:
    values = {"item": {"price": {"one_off": str(one)}}, "order": {"total": float(other)}}
    names = {"item.price.one_off": "string?", "order.total": "number?"}
    for comparison, expected in (("<", one < other), ("==", one == other), (">=", one >= other)):
        text = f"double(item.price.one_off) {comparison} order.total"
        assert compile_condition(text=text, names=names).holds(values) is expected


@settings(max_examples=300)
@given(st.text(max_size=40) | st.text("order.itemsq()[]{}'\"?:!=<>+-*/&| \\n\t019", max_size=60))
def test_any_text_compiles_or_is_refused_in_a_known_way(text: str) -> None:
    try:
        expression = compile_expression(text=text, names=NAMES)
    except ExpressionInvalid as invalid:
        assert "is not a valid expression: " in str(invalid)
        return
    try:
        json.dumps(expression.evaluate(VALUES), allow_nan=False)
    except ExpressionFailed as failed:
        assert failed.reason


@pytest.mark.parametrize(
    "text",
    [
        "order.region.matches('((((')",
        "['A'].exists(one, order.region == one && one.matches('[z-a]'))",
        "timestamp(order.promised_at) < timestamp('2026-02-30T08:00:00Z')",
        "timestamp(order.promised_at) < timestamp(plan.created_at) + duration('2 days')",
    ],
)
def test_a_pattern_or_a_time_that_can_never_be_read_is_refused(text: str) -> None:
    with pytest.raises(ExpressionInvalid, match="whatever the values are, it fails"):
        compile_expression(text=text, names=NAMES)


@pytest.mark.parametrize(
    "text",
    [
        "order.region.matches('^[A-Z]+\\\\d{2,3}\"😀$')",
        "timestamp(order.promised_at) < timestamp('2026-02-28T08:00:00+01:00')",
        "timestamp(order.promised_at) < timestamp(plan.created_at) + duration('48h')",
    ],
)
def test_patterns_and_times_that_can_be_read_are_taken(text: str) -> None:
    assert compile_expression(text=text, names=NAMES).returns == "boolean"
