"""What is found for one look is found once, and never longer than the look lasts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fulfillment.operations.looking import found_once, one_look


@pytest.fixture
def find() -> Callable[..., int]:
    """Says how often it has been called, whatever for."""
    called: list[str] = []

    def find(*, name: str) -> int:
        called.append(name)
        if name == "nothing":
            raise LookupError(name)
        return len(called)

    return found_once(find)


def test_within_a_look_it_is_found_once(find: Callable[..., int]) -> None:
    with one_look():
        assert [find(name="a"), find(name="b"), find(name="a"), find(name="b")] == [1, 2, 1, 2]


def test_the_next_look_finds_anew(find: Callable[..., int]) -> None:
    with one_look():
        assert find(name="a") == 1
    with one_look():
        assert find(name="a") == 2


def test_without_a_look_everybody_finds_anew(find: Callable[..., int]) -> None:
    assert [find(name="a"), find(name="a")] == [1, 2]


def test_a_look_within_another_is_a_part_of_it(find: Callable[..., int]) -> None:
    with one_look():
        with one_look():
            assert find(name="a") == 1
        assert find(name="a") == 1
    assert find(name="a") == 2


def test_what_is_not_found_is_looked_for_again(find: Callable[..., int]) -> None:
    with one_look():
        for _ in range(2):
            with pytest.raises(LookupError):
                find(name="nothing")
        assert find(name="a") == 3


def test_a_look_that_fails_is_over(find: Callable[..., int]) -> None:
    def fail() -> None:
        with one_look():
            find(name="a")
            find(name="nothing")

    with pytest.raises(LookupError):
        fail()
    assert find(name="a") == 3
