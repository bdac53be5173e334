"""User accounts. The platform never loses its last active admin, and only who manages the platform makes admins."""

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sluicegate.core.catalog import Upstream, User, VirtualServer, Visibility, new_id
from sluicegate.core.directory import Directory
from sluicegate.core.errors import Conflict, InvalidInput
from sluicegate.core.identity import UserId
from sluicegate.core.permissions import Permission
from sluicegate.ports import Database, Transaction, Written
from sluicegate.usecases.calling import SHOWN, Caller, no_such, required
from sluicegate.usecases.paging import Page, PageRequest, page_of
from sluicegate.usecases.placing import changed_meanwhile

EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,189}")
ME = "me"
"""Names the caller's own account."""


class NewUser(Struct, frozen=True, forbid_unknown_fields=True):
    """An account to be made; it is active at once."""

    email: Annotated[str, Meta(examples=["alice@example.com"])]
    platform_admin: bool = False


class UserChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is absent stays as it is. The tokens of a user who is not active are worth nothing."""

    active: bool | UnsetType = UNSET
    platform_admin: bool | UnsetType = UNSET


class ManageUsers:
    """Changes of user accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, caller: Caller, wanted: NewUser) -> Written[User]:
        """A new account. Raises Forbidden, InvalidInput, Conflict when the address is taken."""
        caller.require_platform(Permission.USERS_MANAGE)
        if wanted.platform_admin:
            caller.require_platform(Permission.PLATFORM_MANAGE)
        email = checked_email(wanted.email)
        user = User(UserId(new_id("usr")), email, active=True, platform_admin=wanted.platform_admin)
        written = await self._database.write(lambda tx: tx.insert(user))
        return Written(user, written.revision)

    async def change(self, caller: Caller, name: str, change: UserChange) -> Written[User]:
        """The account as it is now. Raises NotFound, Forbidden, Conflict when no active admin would be left."""
        user = _managed(caller, name)
        if change.platform_admin is True:
            caller.require_platform(Permission.PLATFORM_MANAGE)
        admins = _active_admins(caller.directory)
        return await self._database.write(lambda tx: _change(tx, user, change, admins))

    async def delete(self, caller: Caller, name: str) -> Written[None]:
        """Deletes the account with its memberships, tokens and private objects; what it shared has no owner then.

        Raises NotFound, Forbidden, Conflict when no active admin would be left.
        """
        user = _managed(caller, name)
        admins = _active_admins(caller.directory)
        return await self._database.write(lambda tx: _delete(tx, user, admins))


def checked_email(email: str) -> str:
    """The address as it is stored, in lower case, or InvalidInput."""
    if not EMAIL.fullmatch(email):
        raise InvalidInput(f"`{email[:SHOWN]}` is not an email address", code="invalid_email")
    return email.lower()


def user_named(caller: Caller, permission: Permission, name: str) -> User:
    """The user with this address or id, or the caller's own for `me`. Raises NotFound, Forbidden."""
    directory = caller.directory
    user = directory.users.get(caller.principal.user_id) if name == ME else directory.user(name)
    return caller.permitted(permission, user, no_such("user", name))


def list_users(caller: Caller, wanted: PageRequest) -> Page[User]:
    """The accounts that the caller may read, by address: all for a platform admin, else their own."""
    users = caller.directory.users.values()
    return page_of(users, lambda user: user.email, wanted, caller.sieve(Permission.USERS_READ).lets)


def _managed(caller: Caller, name: str) -> User:
    user = user_named(caller, Permission.USERS_MANAGE, name)
    if user.platform_admin:
        caller.require_platform(Permission.PLATFORM_MANAGE)
    return user


def _active_admins(directory: Directory) -> Sequence[UserId]:
    return sorted(user.id for user in directory.users.values() if user.platform_admin and user.active)


def _change(tx: Transaction, judged: User, change: UserChange, admins: Sequence[UserId]) -> User:
    others = _lock_other_admins(tx, judged, admins)
    user = _unchanged(tx, judged)
    changed = msgspec.structs.replace(
        user,
        active=user.active if change.active is UNSET else change.active,
        platform_admin=user.platform_admin if change.platform_admin is UNSET else change.platform_admin,
    )
    if not (changed.active and changed.platform_admin):
        _check_admin_left(user, others)
    tx.update(changed)
    return changed


def _delete(tx: Transaction, judged: User, admins: Sequence[UserId]) -> None:
    others = _lock_other_admins(tx, judged, admins)
    user = _unchanged(tx, judged)
    _check_admin_left(user, others)
    objects: list[Upstream | VirtualServer] = [
        *tx.find(Upstream, owner_id=user.id),
        *tx.find(VirtualServer, owner_id=user.id),
    ]
    for owned in objects:
        if owned.visibility is Visibility.PRIVATE:
            tx.delete(owned)
        else:
            tx.update(msgspec.structs.replace(owned, owner_id=None))
    tx.delete(user)


def _unchanged(tx: Transaction, judged: User) -> User:
    user = required(tx.get(User, judged.id), "the user was deleted meanwhile")
    if user.platform_admin != judged.platform_admin:
        raise changed_meanwhile()
    return user


def _lock_other_admins(tx: Transaction, user: User, admins: Sequence[UserId]) -> bool:
    """Whether there is another active admin. Locks all of them in the order of their ids, so that of two admins who
    demote each other at once one finds out, and neither waits for the other for ever.
    """
    if not user.platform_admin:
        return True
    rows = [tx.get(User, user_id) for user_id in admins]
    return any(row is not None and row.id != user.id and row.active and row.platform_admin for row in rows)


def _check_admin_left(user: User, others: bool) -> None:
    if user.platform_admin and user.active and not others:
        raise Conflict("this is the last active platform admin: make another one first", code="last_admin")
