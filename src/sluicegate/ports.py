"""What use cases and the web need from the outside, as Protocols. `bootstrap` joins them with the adapters."""

from collections.abc import Callable, Coroutine
from typing import Any, Generic, Never, NewType, Protocol, TypeVar, overload

from msgspec import Raw, Struct

from sluicegate.core.catalog import Entity, Era, Upstream
from sluicegate.core.directory import Directory
from sluicegate.core.events import Change
from sluicegate.core.identity import InstanceId, Principal, TokenId, UpstreamId
from sluicegate.core.lease import LeaseState

T = TypeVar("T")
E = TypeVar("E", bound=Entity)


# --- time ---------------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The two clocks: wall time for what tokens state, boot time for what we measure."""

    def wall(self) -> float:
        """Unix seconds; may jump."""

    def boot(self) -> float:
        """Seconds of CLOCK_BOOTTIME: monotonic, and counts while the machine sleeps."""


# --- the database: lent, never given --------------------------------------------------------------------------------


class Transaction(Protocol):
    """One write transaction. What it changes goes to the revision log when the work returns; nobody can forget."""

    def get(self, entity: type[E], key: str) -> E | None:
        """The row, locked until the transaction ends."""

    def all(self, entity: type[E]) -> list[E]:
        """All rows of the kind, in the order of their ids."""

    def find(self, entity: type[E], **columns: str) -> list[E]:
        """The rows whose columns have these values, in the order of their ids."""

    def insert(self, entity: Entity) -> None:
        """Adds a row. Raises Conflict when its id or a unique name is taken, or what it refers to is gone."""

    def update(self, entity: Entity) -> None:
        """Replaces the row with the entity's id. Raises NotFound when there is none, Conflict as `insert` does."""

    def delete(self, entity: Entity) -> None:
        """Removes the row and what belongs to it alone (a team's memberships, an upstream's tools, a user's tokens)."""


class Written(Struct, Generic[T], frozen=True):
    """What the work returned, and the revision at which its changes stand (the head's, when it changed nothing)."""

    value: T
    revision: int


class Database(Protocol):
    """Lends a connection to plain functions. `work` cannot await, so it cannot hold a connection across other I/O.

    Raises DatabaseBusy when no connection is free in time, or the database does not answer within the deadline (the
    work is then abandoned, not cancelled: it may still commit).
    """

    @overload
    async def write(self, work: Callable[[Transaction], Coroutine[Any, Any, Any]]) -> Never: ...
    @overload
    async def write(self, work: Callable[[Transaction], T]) -> Written[T]: ...


Mark = NewType("Mark", int)
"""A fingerprint of one row of the revision log, good within this process: another history has other marks."""


class Poll(Struct, frozen=True):
    """One look at the head of the revision log and at what lies above the revision asked about.

    `changes` is a run without gaps; it may end below `revision` when there is more than one slice.
    """

    epoch: str
    revision: int
    floor: int
    changes: tuple[Change, ...]
    lag: float | None
    """Seconds, by the database's clock alone, from when the oldest of `changes` was written until this look."""
    here: Mark | None
    """The row at the very revision asked about; None when the log has none there: the epoch began there."""
    last: Mark | None
    """The row of the last of `changes`; None when there are none."""


class Snapshot(Struct, frozen=True):
    """The whole state as of one revision; the directory also states which tokens are left out."""

    directory: Directory
    mark: Mark | None
    """The log's row at the directory's revision; None when the epoch began there."""


class Audit(Struct, frozen=True):
    """What the database holds, as an order-independent hash of all entities as of one revision."""

    epoch: str
    revision: int
    digest: int


class FeedSource(Protocol):
    """The revision log, read over the connection that is reserved for it; the audit takes the one for upkeep.

    All raise Unavailable or UnreadableLog; ReadReplica, an Unavailable, when the database is one and may lag behind.
    """

    async def load(self) -> Snapshot:
        """The whole state, in one snapshot of the database."""

    async def poll(self, above: int) -> Poll:
        """The head, and at most some thousands of changes above revision `above`, in one statement."""

    async def audit(self, tokens_from: int) -> Audit:
        """Reads everything again; tokens that expired before `tokens_from` are left out, as in the snapshot."""


class UnreadableLog(Exception):
    """A log row has an unknown kind or a payload that does not fit: the directory must be loaded anew."""


class AuthzFeed(Protocol):
    """What the rest of the process needs from the feed."""

    @property
    def directory(self) -> Directory:
        """The current directory. Raises AuthorizationStale while there is none."""

    @property
    def fresh(self) -> bool:
        """True when a decision may be made at once."""

    @property
    def state(self) -> LeaseState:
        """The lease at this instant."""

    @property
    def age(self) -> float | None:
        """Seconds since the directory was last known to be current; None if it cannot be trusted."""

    async def ensure_current(self) -> None:
        """Returns when decisions may be made; raises AuthorizationStale when they may not."""

    async def catch_up(self) -> None:
        """Waits, for at most 250 ms, for a poll that begins now; all who wait share it. For ids unknown yet."""

    async def reach(self, revision: int) -> None:
        """Waits, for at most a second, until the directory stands at `revision`: a writer reads its own write."""

    async def next_change(self, above: int, at_most: float) -> None:
        """Waits, for `at_most` seconds, until the directory has passed revision `above`, the one it was last seen at,
        or was loaded anew. Cheap: asks for no poll, so thousands of streams may wait.
        """


# --- the other instances --------------------------------------------------------------------------------------------


class Report(Struct, frozen=True):
    """What one worker process states of itself about once a second."""

    instance: InstanceId
    name: str
    """For people: the machine and the process id."""
    revision: int
    trust: float
    """Seconds that its directory is trusted at most after the last successful poll: the larger of L and G."""


class Seen(Struct, frozen=True):
    """An instance as it last reported, `ago` seconds before now by the database's clock."""

    report: Report
    ago: float


class Instances(Protocol):
    """The tiny table in which instances state how far they are. All raise DatabaseBusy."""

    async def report(self, report: Report) -> None:
        """Adds or replaces the instance's row."""

    async def seen(self) -> list[Seen]:
        """All that may still decide by what they knew when they last reported, by name."""

    async def leave(self, instance: InstanceId) -> None:
        """Removes the instance's row: it ends, and trusts nothing any more."""

    async def forget_silent(self) -> int:
        """Removes the rows of those that have not reported for a day and trust nothing; returns how many."""


class LogKeeping(Protocol):
    """Keeps the revision log short. Raises DatabaseBusy."""

    async def trim(self, keep: float) -> int:
        """Raises the floor so that rows older than `keep` seconds can go, deletes them, and returns how many."""


# --- upstreams ------------------------------------------------------------------------------------------------------


class ToolCall(Struct, frozen=True):
    """One `tools/call` to carry to an upstream. Raw values are JSON bytes that pass unread.

    `params` holds the client's params without `name` and `_meta`; `meta` is its `_meta` without the keys of this hop
    (`io.modelcontextprotocol/*`); `capabilities` is what the client declared (`{}` for a legacy client).
    `token_id` separates upstream sessions: two tokens never share one.
    """

    name: str
    params: dict[str, Raw]
    meta: dict[str, Raw]
    capabilities: Raw
    token_id: TokenId
    param_headers: tuple[tuple[str, str], ...]
    """`Mcp-Param-*` headers as the client sent them, for a modern upstream."""


class UpstreamResult(Struct, frozen=True):
    """The `result` member of the upstream's answer, as bytes."""

    result: bytes


class UpstreamRefusal(Struct, frozen=True):
    """The `error` member of the upstream's answer: its own JSON-RPC error, to be passed on as it is."""

    error: bytes


UpstreamAnswer = UpstreamResult | UpstreamRefusal


class Listing(Struct, frozen=True):
    """All tools of an upstream, every page, each as the JSON bytes it came in; and how the upstream speaks."""

    tools: tuple[bytes, ...]
    era: Era
    protocol_version: str


class Upstreams(Protocol):
    """The only way out. Both methods raise UpstreamFailed (see core.errors) and keep to the configured deadlines."""

    async def call_tool(self, upstream: Upstream, call: ToolCall) -> UpstreamAnswer:
        """Carries one call; never repeats one that the upstream may have begun."""

    async def list_tools(self, upstream: Upstream) -> Listing:
        """Probes the era and lists all pages of the upstream's tools."""

    async def forget(self, upstream_id: UpstreamId) -> None:
        """Closes the pooled connections and sessions of an upstream that was changed or deleted."""


class Egress(Protocol):
    """Where upstreams may live."""

    def check_url(self, url: str) -> None:
        """Raises EgressRefused unless the URL may be an upstream's: http(s), no user info, an allowed address."""


class CredentialSealer(Protocol):
    """Encrypts an upstream's credential for the row it is stored in."""

    def seal(self, upstream_id: UpstreamId, secret: str) -> str:
        """The sealed form; opening it for another upstream fails."""

    def open(self, upstream_id: UpstreamId, sealed: str) -> str:
        """The secret. Raises UpstreamFailed when it was sealed with another key or for another upstream."""


# --- who is calling -------------------------------------------------------------------------------------------------


class Authenticator(Protocol):
    """Turns the credential of a request into a principal."""

    def authenticate(self, token: str) -> Principal:
        """The principal of a bearer token. Raises Unauthenticated with a stable code; never touches a database."""


class TokenIssuer(Protocol):
    """Signs what `usecases.manage_tokens` has decided to issue."""

    def issue(self, claims: "IssuedClaims") -> str:
        """A signed token with these claims."""


class IssuedClaims(Struct, frozen=True):
    """The claims of a token of our own; `None` leaves a claim out, and so inherits. Times are Unix seconds."""

    subject: str
    token_id: TokenId
    issued_at: int
    expires_at: int
    teams: tuple[str, ...] | None
    servers: tuple[str, ...] | None
    permissions: tuple[str, ...] | None
