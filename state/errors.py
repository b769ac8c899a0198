"""What can go wrong, named by what the caller should do about it.

EmbedsyncError
├── Unavailable    try again later: ``retry_after`` says how long to wait at least
├── Rejected       this input will never work, whoever sends it again
├── Inconsistent   the evidence does not add up: change nothing, look again
├── Misconfigured  a person has to change a setting (exit 78)
├── Occupied       another process holds this state (exit 75)
└── Denied         the caller may not
    ├── UnknownCaller   no token, or one nobody knows
    ├── Invisible       nothing the caller may see, or nothing at all: never told apart
    └── NotInPlan       the caller's plan does not include it

Adapters translate their vendor's exceptions into these at their edge; above the adapters nobody
catches anything else.
"""


class EmbedsyncError(Exception):
    """The root of every failure embedsync raises on purpose."""


class Unavailable(EmbedsyncError):
    """A service cannot answer now.

    :param service: who is away, as ``/health`` names it: ``source``, ``clip``, ``qdrant``
    :param retry_after: seconds to wait at least, when the service said so
    """

    def __init__(self, service: str, problem: str, retry_after: float | None = None) -> None:
        """Name the service and what it did."""
        super().__init__(f"{service}: {problem}")
        self.service = service
        self.problem = problem
        self.retry_after = retry_after


class Rejected(EmbedsyncError):
    """The very input can never succeed; trying again is pointless."""


class Inconsistent(EmbedsyncError):
    """Two pieces of evidence contradict each other; nothing may be concluded from them."""


class Misconfigured(EmbedsyncError):
    """A setting is missing or wrong.

    :param setting: its name, as the environment spells it
    """

    def __init__(self, setting: str, problem: str) -> None:
        """Name the setting and what is wrong with it."""
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class Occupied(EmbedsyncError):
    """Another process holds the state this one was asked to use."""


class Denied(EmbedsyncError):
    """The caller may not have what it asked for."""


class UnknownCaller(Denied):
    """There is no token, or nobody knows it."""


class Invisible(Denied):
    """The caller may not see it, or it does not exist; the answer is the same."""


class NotInPlan(Denied):
    """The plan the caller is on does not include it."""
