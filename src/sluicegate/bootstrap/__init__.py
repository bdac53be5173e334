"""The composition root: the only place that knows adapters, use cases and `web` alike."""

from sluicegate.bootstrap.adapters import SystemClock
from sluicegate.bootstrap.administration import Administration, administration
from sluicegate.bootstrap.databases import migrate
from sluicegate.bootstrap.gateway import create_app, prepare

__all__ = ["Administration", "SystemClock", "administration", "create_app", "migrate", "prepare"]
