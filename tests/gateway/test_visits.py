"""Who is being answered: what counts, what is remembered, and that nothing is counted twice."""

from __future__ import annotations

from corral.gateway.visits import Visit, Visits
from corral.wire.attribution import Route, find_route

CHAT = find_route("POST", "/v1/chat/completions")
LIST = find_route("GET", "/v1/models")


def arrive(
    visits: Visits, number: int, model: str | None, route: Route = CHAT, conversation: str | None = None
) -> Visit:
    """A request that has been read."""
    visit = Visit(number, "POST", route.path, route, "127.0.0.1:1", float(number))
    visit.model, visit.conversation = model, conversation
    visits.open(visit)
    return visit


def test_only_what_was_forwarded_is_in_flight() -> None:
    """A parked request is open and not in flight; one that ends parked was no use of its model."""
    visits = Visits()
    parked = arrive(visits, 1, "a")

    assert (0, 1) == (visits.in_flight("a"), len(visits))
    visits.close(parked, 5.0)
    assert (None, 0, 5.0) == (visits.last_ended_at("a"), len(visits), parked.ended_at)


def test_in_flight_by_model() -> None:
    """Each model has its own count, the visits in order; the end of the last is the model's last use."""
    visits = Visits()
    one, two, other = arrive(visits, 1, "a"), arrive(visits, 2, "a"), arrive(visits, 3, "b")
    for visit in (two, one, other):
        visits.forward(visit, 4.0)

    assert ({"a": 2, "b": 1}, [two, one]) == (visits.busy(), visits.of("a"))
    assert one.is_in_flight
    visits.close(one, 6.0)
    visits.close(one, 9.0)
    assert (1, 6.0) == (visits.in_flight("a"), visits.last_ended_at("a"))
    visits.close(two, 7.0)
    assert (0, 7.0, None) == (visits.in_flight("a"), visits.last_ended_at("a"), visits.last_ended_at("b"))
    assert [other] == list(visits) and {"b": 1} == visits.busy()


def test_looks_are_no_use() -> None:
    """A list is open while it lasts, and counts for nothing."""
    visits = Visits()
    look = arrive(visits, 1, "a", LIST)
    visits.forward(look, 2.0)

    assert (1, 0) == (len(visits), visits.in_flight("a"))
    visits.close(look, 3.0)
    assert visits.last_ended_at("a") is None


def test_what_cannot_be_attributed_is_counted_apart() -> None:
    """Work for no known model is known to be going on."""
    visits = Visits()
    visit = arrive(visits, 1, None)
    visits.forward(visit, 2.0)

    assert 1 == visits.in_flight_unattributed
    visits.close(visit, 3.0)
    assert 0 == visits.in_flight_unattributed


def test_conversations_lead_to_their_model() -> None:
    """The model of a conversation is the one that it was last forwarded to; what was only asked for is not."""
    visits = Visits()
    first, second = arrive(visits, 1, "a", conversation="c"), arrive(visits, 2, "b", conversation="c")
    assert visits.model_of("c") is None
    visits.forward(first, 3.0)
    assert "a" == visits.model_of("c")
    visits.forward(second, 3.0)
    assert "b" == visits.model_of("c")


def test_memory_is_bounded() -> None:
    """Names that clients make up are not remembered without end."""
    visits = Visits()
    for number in range(25_000):
        visit = arrive(visits, number, f"model-{number}", conversation=f"c-{number}")
        visits.forward(visit, 1.0)
        visits.close(visit, 2.0)

    known = sum(visits.last_ended_at(f"model-{number}") is not None for number in range(25_000))
    assert known == sum(visits.model_of(f"c-{number}") is not None for number in range(25_000)) == 10_000
    assert 2.0 == visits.last_ended_at("model-24999")


def test_changes_are_told() -> None:
    """Whoever subscribed hears of each arrival, forwarding and end."""
    visits, told = Visits(), []
    visits.subscribe(lambda: told.append(len(visits)))
    visit = arrive(visits, 1, "a")
    visits.forward(visit, 2.0)
    visits.close(visit, 3.0)
    visits.close(visit, 4.0)

    assert [1, 1, 0] == told
