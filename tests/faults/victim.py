"""A token that is revoked while it is used on all instances, and what may be answered to it."""

import time
from collections.abc import Sequence
from contextlib import ExitStack

from msgspec import structs

from sluicegate.core.catalog import Token
from sluicegate.ports import Transaction
from tests.e2e.running import claims_of
from tests.faults.site import Site
from tests.faults.traffic import Answered, last_well, traffic

CLOCKS = 0.1
"""Seconds between an instant of a test and what it stands for."""


class Victim:
    """A token of alice's that will be revoked, used on all instances from now on."""

    def __init__(self, site: Site, using: ExitStack) -> None:
        self._site = site
        self.token = site.lasting.gateway.issue(site.tokens.root, "alice@example.com")
        self.answers = {each.name: using.enter_context(traffic()) for each in site.instances}
        for instance in site.instances:
            self.answers[instance.name].calling(instance.url, self.token)

    def revoked(self) -> None:
        """Behind the instances' backs; not committed before `wanted`, but when it was `committed`."""
        self.wanted = time.monotonic()
        self.committed = self._site.change(self._revoke)

    def _revoke(self, transaction: Transaction) -> None:
        token = transaction.get(Token, claims_of(self.token)["jti"])
        assert token is not None
        transaction.update(structs.replace(token, revoked_at=int(time.time())))

    def is_refused_everywhere(self) -> bool:
        return all(seen.seen()[-1].code == "token_revoked" for seen in self.answers.values())


def decided_rightly(victim: Victim, answers: Sequence[Answered], trust: float) -> None:
    """Granted while it was good; not by a directory that was confirmed later, and by nobody beyond the bound."""
    granted = [each for each in answers if each.well]
    assert granted
    assert max(each.confirmed_after for each in granted) <= victim.committed + CLOCKS
    assert last_well(answers) <= victim.committed + trust + CLOCKS
    refused = [each for each in answers if not each.well]
    assert {(each.status, each.code) for each in refused} <= {(401, "token_revoked"), (503, "authz_stale")}
    assert min(each.done for each in refused if each.status == 401) >= victim.wanted
