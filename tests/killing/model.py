"""What the writers write: after write number n the database holds exactly `world_after(n)`, whatever happened."""

from sluicegate.core.catalog import KIND_OF, Entity, Kind, Membership, Team, Token, User, membership_id
from sluicegate.core.identity import TeamId, TokenId, UserId
from sluicegate.core.permissions import Role
from sluicegate.ports import Transaction

KEPT = 3
"""Writes whose entities are there; the one before them is deleted."""
COUNTER = TeamId("team_counter")
FAR = 4_000_000_000
Key = tuple[Kind, str]


def counter_at(number: int) -> Team:
    """States how many writes there were."""
    return Team(COUNTER, "counter", str(number), number % 2 == 0)


def made_by(number: int, *, newest: bool = True) -> tuple[Team, User, Membership, Token]:
    """The entities of one write; the next write renames the team."""
    team, user = TeamId(f"team_{number}"), UserId(f"usr_{number}")
    return (
        Team(team, f"t{number}", "new" if newest else "left", True),
        User(user, f"{number}@example.com", True, False),
        Membership(membership_id(user, team), user, team, Role.VIEWER),
        Token(TokenId(f"tok_{number}"), user, "t", 1, FAR, None, ("a",), (), None),
    )


def world_after(number: int) -> dict[Key, Entity]:
    """All entities."""
    held: list[Entity] = [counter_at(number)]
    for each in range(max(1, number - KEPT + 1), number + 1):
        held += made_by(each, newest=each == number)
    return {(KIND_OF[type(entity)], entity.id): entity for entity in held}  # type: ignore[attr-defined]


def written(transaction: Transaction) -> int:
    """How many writes there were, and no other one is made until the transaction ends."""
    counter = transaction.get(Team, COUNTER)
    assert counter is not None
    return int(counter.name)


def write_once(transaction: Transaction, number: int) -> None:
    """Write `number`, after `number - 1`: inserts, updates, and deletes with all that belongs to it."""
    transaction.update(counter_at(number))
    for entity in made_by(number):
        transaction.insert(entity)
    if number > 1:
        transaction.update(made_by(number - 1, newest=False)[0])
    if number > KEPT:
        team, user, *_ = made_by(number - KEPT, newest=False)
        transaction.delete(user)
        transaction.delete(team)
