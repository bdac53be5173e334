"""Sluicegate: an MCP gateway for teams that never makes a request wait for the database."""

__version__ = "0.1.0"
