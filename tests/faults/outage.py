"""An outage of the database, lived through with traffic on both instances."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from msgspec import Struct

from tests.e2e.running import wait_until
from tests.faults.site import PATIENCE, Instance, Site
from tests.faults.traffic import LONGEST, Answered, Sort, Traffic, traffic, write_now
from tests.faults.vitals import Vitals, vitals

Fault = Callable[[Site], AbstractContextManager[object]]


class Outage(Struct, frozen=True):
    """What was seen. The database was away for sure from `began` until `ended`, and all was fresh at `recovered`."""

    site: Site
    began: float
    ended: float
    recovered: float
    answers: dict[str, Traffic]
    before: dict[str, Vitals]
    at_its_end: dict[str, Vitals]
    state_at_its_end: dict[str, str]
    writes_at_its_end: dict[str, Answered]

    def seen(self, instance: Instance, *sorts: Sort) -> Sequence[Answered]:
        return self.answers[instance.name].seen(*sorts)

    def meanwhile(self, instance: Instance, *sorts: Sort) -> Sequence[Answered]:
        return self.answers[instance.name].seen(*sorts, since=self.began, until=self.ended)


def lived_through(site: Site, fault: Fault, wait: Callable[[], object], at_most: float = LONGEST) -> Outage:
    """An outage that lasts as long as `wait` does; traffic goes on before and after, `at_most` seconds in all."""
    wait_until(site.is_calm, PATIENCE, "all is well at first")
    before = {each.name: vitals(each) for each in site.instances}
    with traffic(at_most) as of_lasting, traffic(at_most) as of_strict:
        answers = {"lasting": of_lasting, "strict": of_strict}
        for instance in site.instances:
            answers[instance.name].everything(instance.url, site.tokens.alice, site.tokens.root)
        wait_until(lambda: len(of_lasting.seen(Sort.WRITE)) > 1, PATIENCE, "a change was made before")
        with fault(site):
            began = time.monotonic()
            wait()
            at_its_end = {each.name: vitals(each) for each in site.instances}
            states = {each.name: each.authorization() for each in site.instances}
            writes = {each.name: write_now(each.url, site.tokens.root) for each in site.instances}
            ended = time.monotonic()
        wait_until(lambda: all(each.is_fresh() for each in site.instances), PATIENCE, "all is fresh again")
        recovered = time.monotonic()
        wait_until(lambda: len(well_since(of_lasting, recovered)) > 1, PATIENCE, "a change was made after")
    print(f"fresh again {recovered - ended:.2f} s after the end")
    return Outage(site, began, ended, recovered, answers, before, at_its_end, states, writes)


def well_since(answers: Traffic, instant: float) -> list[Answered]:
    return [each for each in answers.seen(Sort.WRITE, since=instant) if each.well]
