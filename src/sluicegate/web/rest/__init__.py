"""The administrative API under `/v1`, and its description. Reads are answered from the directory alone."""

from sluicegate.web.rest.app import create_rest_app
from sluicegate.web.rest.context import RestContext

__all__ = ["RestContext", "create_rest_app"]
