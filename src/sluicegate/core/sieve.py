"""What a list shows: exactly what may be used, though a hundred thousand objects cannot be decided one by one."""

from msgspec.structs import replace

from sluicegate.core.catalog import Terms, Token, Tool, User
from sluicegate.core.directory import Directory
from sluicegate.core.identity import AllServers, OnlyServers, Principal, ToolId, UpstreamId, UserId
from sluicegate.core.permissions import Permission
from sluicegate.core.policy import Target, decide, lends_tools
from sluicegate.core.routing import selection_of


class Sieve:
    """`decide` for very many targets: asked once for all that stand alike. Good until the next `await`."""

    def __init__(self, principal: Principal, permission: Permission, directory: Directory, at: float) -> None:
        self._principal = principal
        self._permission = permission
        self._directory = directory
        self._at = at
        self._lent = self._lent_tools()
        """The tools that the token's servers lend; None when it names no servers."""
        self._any_server = replace(principal, scope=replace(principal.scope, servers=AllServers()))
        self._on_terms: dict[tuple[UpstreamId, Terms], bool] = {}
        self._by_ownership: dict[tuple[type[Target], bool], bool] = {}

    def lets(self, target: Target) -> bool:
        """Whether `decide` would allow it."""
        if type(target) is Tool:
            return (self._lent is None or target.id in self._lent) and self._lets_on_terms(target)
        if type(target) is User:
            return self._lets_owned(target, target.id)
        if type(target) is Token:
            return self._lets_owned(target, target.user_id)
        return self._allowed(self._principal, target)

    def may_let_some(self, upstream_id: UpstreamId) -> bool:
        """False only when it lets none of the upstream's tools; found without looking at each."""
        terms = self._directory.terms_of(upstream_id)
        return any(self._lets_on_terms(Tool(ToolId(""), upstream_id, "", "", *each)) for each in terms)

    def _lets_on_terms(self, tool: Tool) -> bool:
        """Decides for all tools of the upstream that stand on the same terms, as far as they are lent."""
        alike = tool.upstream_id, tool.terms
        known = self._on_terms.get(alike)
        if known is None:
            known = self._on_terms[alike] = self._allowed(self._any_server, tool)
        return known

    def _lets_owned(self, target: User | Token, owner_id: UserId) -> bool:
        """Decides for all accounts, or tokens, that are the caller's, and for all that are not."""
        alike = type(target), owner_id == self._principal.user_id
        known = self._by_ownership.get(alike)
        if known is None:
            known = self._by_ownership[alike] = self._allowed(self._principal, target)
        return known

    def _allowed(self, principal: Principal, target: Target) -> bool:
        return decide(principal, self._permission, target, self._directory, self._at).allowed

    def _lent_tools(self) -> frozenset[ToolId] | None:
        servers = self._principal.scope.servers
        if type(servers) is not OnlyServers:
            return None
        lent: set[ToolId] = set()
        for server_id in servers.ids:
            server = self._directory.servers.get(server_id)
            if server is not None and lends_tools(server, self._principal, self._directory, self._at):
                lent |= selection_of(server, self._directory).ids
        return frozenset(lent)
