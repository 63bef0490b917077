"""Values: frozen, compared by content, with defaults."""

from __future__ import annotations

import pytest

from corral.wire import Record


class Point(Record):
    """A value for the tests."""

    x: int
    y: int = 2


class Named(Point):
    """A value that extends another."""

    name: str = ""


def test_fields_by_position_keyword_and_default() -> None:
    """Fields may be given by position or name; those with a default may be left out."""
    assert Point(1) == Point(1, 2) == Point(y=2, x=1)
    assert Named(1, 2, "n").name == "n"
    assert repr(Point(1)) == "Point(x=1, y=2)"
    assert hash(Point(1)) == hash(Point(1, 2))


def test_different_values_and_types_differ() -> None:
    """Another content or another type is another value."""
    assert Point(1) != Point(2)
    assert Point(1) != Named(1)
    assert Point(1) != 1


def test_values_are_frozen() -> None:
    """No field can be changed, added or taken away."""
    point = Point(1)

    with pytest.raises(AttributeError):
        point.x = 3  # type: ignore[misc]  # the point of the test
    with pytest.raises(AttributeError):
        del point.x
    with pytest.raises(AttributeError):
        point.z = 1


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})])
def test_wrong_fields_are_refused(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    """Missing, surplus, unknown and doubled fields raise TypeError."""
    with pytest.raises(TypeError):
        Point(*args, **kwargs)
