"""The command line, one file a command. It knows everything; nothing knows it."""

from sluicegate.cli.app import main

__all__ = ["main"]
