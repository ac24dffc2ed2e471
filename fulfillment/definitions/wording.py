"""What is wrong with the shape of data, in words for whoever wrote it."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping

from pydantic_core import ErrorDetails

_INSTANT = "An instant with its time zone is expected here, such as 2026-07-05T08:00:00Z."
_PLAIN: Mapping[str, str] = {
    "missing": "It is required.",
    "extra_forbidden": "It is not known here.",
    "string_type": "A text is expected here, not {given}.",
    "int_type": "A whole number is expected here, not {given}.",
    "int_from_float": "A whole number is expected here, not {given}.",
    "float_type": "A number is expected here, not {given}.",
    "finite_number": "A finite number is expected here.",
    "decimal_type": "A number is expected here, not {given}.",
    "decimal_parsing": "A number is expected here, not {given}.",
    "decimal_max_digits": "A number may have at most {max_digits} digits here.",
    "decimal_max_places": "A number may have at most {decimal_places} digits after the point here.",
    "datetime_type": _INSTANT,
    "datetime_parsing": _INSTANT,
    "datetime_from_date_parsing": _INSTANT,
    "timezone_aware": _INSTANT,
    "bool_type": "true or false is expected here, not {given}.",
    "tuple_type": "A list is expected here, not {given}.",
    "list_type": "A list is expected here, not {given}.",
    "dict_type": "A mapping of names to values is expected here, not {given}.",
    "model_type": "A mapping of names to values is expected here, not {given}.",
    "model_attributes_type": "A mapping of names to values is expected here, not {given}.",
    "enum": "{given} is not one of {expected}.",
    "literal_error": "{given} is not one of {expected}.",
    "too_short": "At least {min_length} is needed here.",
    "too_long": "There may be at most {max_length} here.",
    "string_too_short": "A text of at least {min_length} character is needed here.",
    "string_too_long": "A text may have at most {max_length} characters here.",
    "greater_than": "It must be more than {gt}, not {given}.",
    "greater_than_equal": "It must be at least {ge}, not {given}.",
    "less_than": "It must be less than {lt}, not {given}.",
    "less_than_equal": "It must be at most {le}, not {given}.",
    "string_pattern_mismatch": "{given} is not allowed here; it takes {letters}.",
}
"""What is wrong with a shape, by pydantic's name for it."""
_LETTERS: Mapping[str, str] = {
    r"^[a-z][a-z0-9_]{0,62}$": "up to 63 of a-z, 0-9 and _, a letter first",
    r"^[a-z][a-z0-9_-]{0,62}$": "up to 63 of a-z, 0-9, _ and -, a letter first",
    r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$": (
        "up to 200 of A-Z, a-z, 0-9 and . _ : -, a letter or digit first"
    ),
    r"^[a-z][a-z0-9_]{0,62}\.[a-z][a-z0-9_]{0,62}$": "<task>.<output>",
    r"^[A-Z]{3}$": "three capitals, such as EUR",
    r"^[A-Za-z0-9_.:-]{1,100}$": "up to 100 of A-Z, a-z, 0-9 and . _ : -",
}
"""The patterns of `closed` in words."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80


def in_words(error: ErrorDetails) -> str:
    """One of pydantic's faults; what it has no better words for is left as it is."""
    words = _PLAIN.get(error["type"])
    if words is None:
        return error["msg"].removeprefix("Value error, ")
    about = error.get("ctx", {})
    pattern = about.get("pattern", "")
    return words.format(
        given=_short.repr(error["input"]), letters=_LETTERS.get(pattern, pattern), **about
    )
