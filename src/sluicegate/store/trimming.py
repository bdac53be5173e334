"""Keep the revision log short: an instance that stands below the floor loads anew, so old rows can go."""

from sqlalchemy import Connection, delete, func, select, update

from sluicegate.store.database_clock import seconds_since
from sluicegate.store.revision_log import RECORDED
from sluicegate.store.schema import authz_head, authz_log

AT_ONCE = 5000
"""Rows looked at and deleted in one transaction, which may hold up writers: it locks the head."""


def trim(connection: Connection, keep: float) -> int:
    """Raises the floor to the newest revision older than `keep` seconds, and deletes the rows below the floor.

    Returns how many it deleted, a bounded number: to be called again, in a transaction of its own, until that is 0.
    The row at the floor stays, so that whoever stands there can tell that it still follows the same history.
    """
    _raise_floor(connection, keep)
    floor = select(authz_head.c.floor).scalar_subquery()
    oldest = select(authz_log.c.rev).where(authz_log.c.rev < floor).order_by(authz_log.c.rev).limit(AT_ONCE)
    gone = delete(authz_log).where(authz_log.c.rev.in_(oldest))
    return connection.execute(gone, execution_options=RECORDED).rowcount


def _raise_floor(connection: Connection, keep: float) -> None:
    oldest = select(authz_log.c.rev, authz_log.c.at).order_by(authz_log.c.rev).limit(AT_ONCE).subquery()
    newest_old = select(func.max(oldest.c.rev)).where(seconds_since(oldest.c.at) > keep)
    floor = connection.execute(newest_old).scalar_one()
    if floor is not None:
        higher = update(authz_head).where(authz_head.c.floor < floor).values(floor=floor)
        connection.execute(higher, execution_options=RECORDED)
