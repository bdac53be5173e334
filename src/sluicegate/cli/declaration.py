"""The form of a file for `sluicegate apply`, read from YAML into what `usecases.apply_declaration` takes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from msgspec import UNSET, UnsetType

from sluicegate.cli.yaml_parts import Part, read_yaml
from sluicegate.core.catalog import Visibility, checked_slug
from sluicegate.core.errors import InvalidInput
from sluicegate.core.permissions import Role
from sluicegate.core.routing import checked_selector
from sluicegate.usecases.apply_form import (
    Declaration,
    DeclaredMembership,
    DeclaredSelector,
    DeclaredServer,
    DeclaredTeam,
    DeclaredUpstream,
    DeclaredUser,
    Named,
    NoCredential,
    Odd,
    Ownership,
    PlainBearer,
    refused,
)
from sluicegate.usecases.manage_users import checked_email

T = TypeVar("T")
ENVIRONMENT = "env:"
MAX_NAME = 100
OWNERSHIP = ("team", "owner", "visibility", "enabled")


class Declared(Protocol):
    """An object of the file."""

    @property
    def line(self) -> int: ...


D = TypeVar("D", bound=Declared)


def read_declaration(path: Path) -> Declaration:
    """What the file declares. Raises InvalidInput that has `FILE:LINE: sentence` in a line of its own per problem."""
    whole = read_yaml(path)
    problems: list[Odd] = []
    try:
        sections = whole.members((), ("teams", "users", "upstreams", "servers"))
    except Odd as odd:
        raise refused(str(path), [odd]) from None
    declaration = Declaration(
        str(path),
        _objects(sections.get("teams"), _team, lambda team: team.slug, problems),
        _objects(sections.get("users"), _user, lambda user: user.email, problems),
        _objects(sections.get("upstreams"), _upstream, lambda upstream: upstream.slug, problems),
        _objects(sections.get("servers"), _server, lambda server: server.slug, problems),
    )
    if problems:
        raise refused(str(path), problems)
    return declaration


def _objects(
    section: Part | None, read: Callable[[Part], D], name: Callable[[D], str], problems: list[Odd]
) -> tuple[D, ...]:
    """The objects of a section that could be read; what could not goes to `problems`."""
    found: dict[str, D] = {}
    try:
        parts = [] if section is None else section.items()
    except Odd as odd:
        problems.append(odd)
        return ()
    for part in parts:
        try:
            one = read(part)
            if first := found.get(name(one)):
                raise part.odd(f"`{name(one)}` is already declared in line {first.line}")
            found[name(one)] = one
        except Odd as odd:
            problems.append(odd)
    return tuple(found.values())


def _team(part: Part) -> DeclaredTeam:
    found = part.members(("slug",), ("name",))
    return DeclaredTeam(part.line, _checked(found["slug"], checked_slug), _optional(found, "name", _team_name))


def _team_name(part: Part) -> str:
    name = part.text()
    if len(name) > MAX_NAME or not name.isprintable():
        raise part.odd(f"`name` has 1 to {MAX_NAME} printable characters")
    return name


def _user(part: Part) -> DeclaredUser:
    found = part.members(("email",), ("platform_admin", "teams"))
    return DeclaredUser(
        part.line,
        _checked(found["email"], checked_email),
        _optional(found, "platform_admin", Part.flag),
        _optional(found, "teams", _memberships),
    )


def _memberships(part: Part) -> tuple[DeclaredMembership, ...]:
    return tuple(DeclaredMembership(Named(role.line, team), role.choice(Role)) for team, role in part.pairs().items())


def _upstream(part: Part) -> DeclaredUpstream:
    found = part.members(("slug", "url"), (*OWNERSHIP, "auth"))
    return DeclaredUpstream(
        part.line,
        _checked(found["slug"], checked_slug),
        _named(found["url"]),
        _ownership(found),
        _optional(found, "auth", _auth),
    )


def _auth(part: Part) -> PlainBearer | NoCredential:
    found = part.pairs()
    kind = found["type"].text() if "type" in found else None
    if kind == "none":
        part.members(("type",))
        return NoCredential()
    if kind == "bearer":
        return _bearer(part.members(("type", "token"))["token"])
    raise part.odd("`auth` is {type: bearer, token: …} or {type: none}")


def _bearer(part: Part) -> PlainBearer:
    text = part.text()
    if not text.startswith(ENVIRONMENT):
        return PlainBearer(part.line, text)
    name = text.removeprefix(ENVIRONMENT)
    secret = os.environ.get(name)
    if not secret:
        raise part.odd(f"the environment variable `{name[:80]}` is not set: it holds this upstream's token")
    return PlainBearer(part.line, secret)


def _server(part: Part) -> DeclaredServer:
    found = part.members(("slug", "tools"), OWNERSHIP)
    tools = tuple(map(_selector, found["tools"].items()))
    aliases = [tool.selector.alias for tool in tools if tool.selector.alias is not None]
    for tool in tools:
        if aliases.count(tool.selector.alias or "") > 1:
            raise Odd(tool.line, f"two tools cannot both be named `{tool.selector.alias}`")
    return DeclaredServer(part.line, _checked(found["slug"], checked_slug), _ownership(found), tools)


def _selector(part: Part) -> DeclaredSelector:
    alias = None
    tool = part
    if part.is_mapping:
        found = part.members(("tool", "as"))
        tool, alias = found["tool"], found["as"].text()
    name = tool.text()
    try:
        return DeclaredSelector(part.line, checked_selector(name, alias))
    except InvalidInput as error:
        raise tool.odd(str(error)) from None


def _ownership(found: dict[str, Part]) -> Ownership:
    return Ownership(
        _optional(found, "team", _named),
        _optional(found, "owner", _named),
        _optional(found, "visibility", lambda part: part.choice(Visibility)),
        _optional(found, "enabled", Part.flag),
    )


def _named(part: Part) -> Named:
    return Named(part.line, part.text())


def _checked(part: Part, check: Callable[[str], str]) -> str:
    try:
        return check(part.text())
    except InvalidInput as error:
        raise part.odd(str(error)) from None


def _optional(found: dict[str, Part], key: str, read: Callable[[Part], T]) -> T | UnsetType:
    return read(found[key]) if key in found else UNSET
