"""Who asks too often is told when to come again; who guesses at tokens, much sooner."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest
from http_fakes import CATS
from http_world import Client, Opener, World
from still_clock import Clock

from handlers.auth import Access
from handlers.parts import Limits
from handlers.peers import household
from handlers.rates import Buckets, Rate
from handlers.routes import ROUTES, Reach
from state.errors import Unavailable, UnknownCaller

TOKEN = "the-admin's-own"
GUARDED = Access(TOKEN, (ip_network("192.0.2.0/24"),))
ASK = {"project_id": CATS}
FEW = Limits(requests_per_second=1, burst_seconds=3)
GUESSES = 4
SUSPICIOUS = Limits(guesses_at_once=GUESSES, guesses_per_second=0.5, repeats_at_once=2, repeats_per_second=1)


async def asks(client: Client, token: str | None, times: int = 1, path: str = "/task_status") -> list[int]:
    headers = {} if token is None else {"x-api-key": token}
    statuses = []
    for _ in range(times):
        await client.post(path, ASK, headers=headers)
        statuses.append(client.status)
    return statuses


def test_a_bucket_gives_its_burst_and_then_its_rate(clock: Clock) -> None:
    buckets = Buckets(Rate(2, 0.5), clock)
    for _ in range(2):
        assert buckets.wait(b"a") == 0
        buckets.take(b"a")
    assert (buckets.wait(b"a"), buckets.wait(b"b")) == (2, 0)
    clock.seconds += 1.5
    assert buckets.wait(b"a") == 0.5
    clock.seconds += 1_000
    buckets.take(b"a")
    buckets.take(b"a")
    assert buckets.wait(b"a") == 2


def test_what_was_taken_on_credit_is_paid_back(clock: Clock) -> None:
    buckets = Buckets(Rate(1, 1), clock)
    for _ in range(4):
        buckets.take(b"a")
    assert buckets.wait(b"a") == 4


def test_only_so_many_keys_are_remembered_those_in_use(clock: Clock) -> None:
    buckets = Buckets(Rate(1, 1), clock, most=3)
    for key in b"abcdabefaghaijaka":
        buckets.take(bytes([key]))
    assert [bytes([key]) in buckets for key in b"abcjk"] == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        (None, "", True),
    ],
)
def test_addresses_of_one_owner_are_one(one: str | None, another: str, same: bool) -> None:
    assert (household(one) == household(another)) is same


async def test_who_asks_too_often_is_429_and_told_when_to_come_again(opened: Opener, clock: Clock) -> None:
    client = await opened(limits=FEW, clock=clock)
    assert await asks(client, None, 5) == [200, 200, 200, 429, 429]
    assert client.headers["Retry-After"] == "1"
    clock.seconds += 2
    assert await asks(client, None, 3) == [200, 200, 429]


async def test_one_caller_uses_up_nothing_of_another(opened: Opener, clock: Clock) -> None:
    client = await opened(limits=FEW, clock=clock, access=GUARDED, platform=True)
    assert (await asks(client, "alice", 4))[-1] == 429
    assert await asks(client, TOKEN, 4) == [200, 200, 200, 429]
    assert await asks(client, "alice") == [429]
    await client.post("/embeddings_up_to_date", ASK, headers={"x-api-key": "bob"})
    assert client.status == 200


async def test_a_token_is_one_caller_wherever_it_stands(opened: Opener, clock: Clock) -> None:
    client = await opened(limits=FEW, clock=clock, platform=True)
    for _ in range(3):
        await client.post("/task_status", {"state": ASK, "context": {"apiToken": "alice"}})
        assert client.status == 200
    assert await asks(client, "alice") == [429]


@pytest.mark.parametrize("route", [one for one in ROUTES if not one.metered], ids=lambda one: one.path)
async def test_what_watches_over_us_may_ask_as_often_as_it_likes(
    opened: Opener, clock: Clock, route: object
) -> None:
    client = await opened(limits=FEW, clock=clock, access=GUARDED)
    await asks(client, TOKEN, 4)
    for _ in range(8):
        response = await client.http.request(route.method, route.path, headers={"x-api-key": TOKEN})
        assert response.status == 200


def test_all_that_is_asked_by_anyone_but_a_probe_is_counted() -> None:
    free = {route.path for route in ROUTES if not route.metered}
    assert free - {route.path for route in ROUTES if route.reach is Reach.ANYONE} == {"/metrics"}


async def test_without_a_rate_nobody_is_held_up(opened: Opener, clock: Clock) -> None:
    client = await opened(limits=Limits(requests_per_second=0), clock=clock)
    assert set(await asks(client, None, 50)) == {200}


async def test_an_address_has_few_guesses_and_the_platform_hears_no_more(
    opened: Opener, clock: Clock, world: World
) -> None:
    client = await opened(limits=SUSPICIOUS, clock=clock, platform=True)
    heard = []
    world.platform.authorise = _hearing(world.platform.authorise, heard)
    statuses = [(await asks(client, f"guess-{number}"))[0] for number in range(8)]
    assert statuses == [401] * GUESSES + [429] * 4
    assert len(heard) == GUESSES
    assert client.headers["Retry-After"] == "2"
    clock.seconds += 2
    assert await asks(client, "another-guess") == [401]
    assert await asks(client, "and-another") == [429]


def _hearing(ask, heard):
    async def authorise(token, project_id):
        heard.append(token)
        await ask(token, project_id)

    return authorise


async def test_a_right_guess_is_not_told_from_a_wrong_one_when_there_were_too_many(
    opened: Opener, clock: Clock
) -> None:
    client = await opened(limits=SUSPICIOUS, clock=clock, access=GUARDED)
    for number in range(GUESSES):
        assert await asks(client, f"guess-{number}") == [401]
    assert await asks(client, TOKEN) == [429]


async def test_a_guesser_locks_out_nobody_who_was_let_in_before(opened: Opener, clock: Clock) -> None:
    client = await opened(limits=SUSPICIOUS, clock=clock, access=GUARDED, platform=True)
    assert await asks(client, "alice") + await asks(client, TOKEN) == [200, 200]
    for number in range(GUESSES + 2):
        await asks(client, f"guess-{number}")
    assert client.status == 429
    assert await asks(client, "alice", 5) + await asks(client, TOKEN, 5) == [200] * 10


async def test_an_old_token_sent_again_and_again_uses_up_one_guess(opened: Opener, clock: Clock) -> None:
    client = await opened(limits=SUSPICIOUS, clock=clock, platform=True)
    assert await asks(client, "old", 4) == [401, 401, 429, 429]
    for number in range(GUESSES - 1):
        assert await asks(client, f"guess-{number}") == [401]
    assert await asks(client, "one-more") == [429]


async def test_asking_without_a_token_is_no_guess(opened: Opener, clock: Clock) -> None:
    client = await opened(limits=SUSPICIOUS, clock=clock, access=GUARDED)
    assert set(await asks(client, None, 20)) == {401}
    assert await asks(client, TOKEN) == [200]


async def test_a_token_that_is_good_no_more_is_a_guess_like_any_other(
    opened: Opener, clock: Clock, world: World
) -> None:
    client = await opened(limits=SUSPICIOUS, clock=clock, platform=True)
    assert await asks(client, "alice") == [200]
    world.platform.failure = UnknownCaller("revoked")
    assert await asks(client, "alice", 4) == [401, 401, 429, 429]


@pytest.mark.parametrize("body", [{"project_id": -1}, {"project_id": 999}, {"state": 1}, b"{"], ids=repr)
async def test_only_an_answer_proves_a_token(opened: Opener, clock: Clock, body: object) -> None:
    client = await opened(limits=SUSPICIOUS, clock=clock, platform=True)
    for number in range(GUESSES):
        await asks(client, f"guess-{number}")
    for _ in range(2):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        await client.raw("/search", data, headers={"x-api-key": "mallory"})
        assert client.status in (400, 429)
    assert await asks(client, "mallory") == [429]


async def test_a_platform_that_is_away_makes_no_token_a_guess(
    opened: Opener, clock: Clock, world: World
) -> None:
    client = await opened(limits=SUSPICIOUS, clock=clock, platform=True)
    world.platform.failure = Unavailable("source", "away")
    assert set(await asks(client, "alice", 10)) == {503}
    world.platform.failure = None
    assert await asks(client, "alice") == [200]
