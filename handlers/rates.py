"""How often one caller may ask, and how often an address may guess at tokens.

A caller is whoever holds a token, from wherever it comes: a platform's proxy sends the requests of all its
users from one address. Without a token it is the address.

A token that nobody knows is a guess, and costs the platform a question. An address has few of them. So that
one guesser behind a proxy locks out none of its neighbours, a token that was good from that address is
never held up for it; and so that a client with an old token does not use up the guesses of the others, the
same wrong token counts once, and has a measure of its own for being sent again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

from handlers.auth import OperatorsOnly
from handlers.errors import Busy
from handlers.peers import household
from state.errors import UnknownCaller

REMEMBERED = 10_000
"""Callers, addresses and tokens remembered of each kind; those not heard of for longest are forgotten."""

LONGEST_WORD = 4_097
"""Characters of a token that tell it from others: one longer than 4,096 opens nothing."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and then so many per second; none per second: as many as you like."""

    burst: float
    per_second: float


class Buckets:
    """A token bucket for each of many keys.

    A key that is forgotten begins with a full bucket, so no flood of keys takes anything from anybody.

    :param clock: seconds
    """

    def __init__(self, rate: Rate, clock: Callable[[], float], most: int = REMEMBERED) -> None:
        self._rate = rate
        self._clock = clock
        self._most = most
        self._levels: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._levels

    def wait(self, key: bytes) -> float:
        """Return the seconds until there is one to take; 0: now."""
        if not self._rate.per_second:
            return 0.0
        return max(0.0, (1.0 - self._level(key)) / self._rate.per_second)

    def take(self, key: bytes) -> None:
        """Take one, on credit where there is none."""
        self._levels[key] = (self._level(key) - 1.0, self._clock())
        self._levels.move_to_end(key)
        while len(self._levels) > self._most:
            self._levels.popitem(last=False)

    def _level(self, key: bytes) -> float:
        level, since = self._levels.get(key, (self._rate.burst, 0.0))
        return min(self._rate.burst, level + (self._clock() - since) * self._rate.per_second)


class Rates:
    """The rates that one application holds its callers to.

    :param asking: of any one caller
    :param guessing: of different unknown tokens from one address
    :param repeating: of one unknown token from one address
    """

    def __init__(self, asking: Rate, guessing: Rate, repeating: Rate, clock: Callable[[], float]) -> None:
        self._asking = Buckets(asking, clock)
        self._guesses = Buckets(guessing, clock)
        self._refused = Buckets(repeating, clock)
        self._proven: OrderedDict[bytes, None] = OrderedDict()

    def spend(self, remote: str | None, token: str | None) -> None:
        """Count a request.

        :param remote: the peer's address
        :raises Busy: when the caller has asked too often
        """
        caller = _digest("from", household(remote)) if token is None else _digest("by", token)
        if wait := self._asking.wait(caller):
            raise Busy("You ask too often.", wait)
        self._asking.take(caller)

    @contextmanager
    def proving(self, remote: str | None, token: str | None) -> Iterator[None]:
        """Find out, while the context lasts, whether a token is good: an answer without an error says so.

        :param remote: the peer's address
        :raises Busy: when too many unknown tokens came from there
        """
        if token is None:
            yield
            return
        peer = household(remote)
        address, key = _digest("from", peer), _digest("by", token, peer)
        if key not in self._proven:
            wait = self._refused.wait(key) if key in self._refused else self._guesses.wait(address)
            if wait:
                raise Busy("Too many tokens that nobody knows came from your address.", wait)
        try:
            yield
        except UnknownCaller as refusal:
            if isinstance(refusal, OperatorsOnly) and key in self._proven:
                raise
            self._proven.pop(key, None)
            if key not in self._refused:
                self._guesses.take(address)
            self._refused.take(key)
            raise
        self._proven[key] = None
        self._proven.move_to_end(key)
        while len(self._proven) > REMEMBERED:
            self._proven.popitem(last=False)


def _digest(*words: str) -> bytes:
    """Return a key of fixed size that does not give the words away."""
    return sha256("\0".join(word[:LONGEST_WORD] for word in words).encode(errors="surrogatepass")).digest()
