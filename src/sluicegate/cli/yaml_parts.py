"""YAML read strictly, with the line of everything: no tags of other languages, no key twice, nothing guessed."""

import difflib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import yaml

from sluicegate.core.errors import InvalidInput
from sluicegate.usecases.apply_form import Odd

E = TypeVar("E", bound=StrEnum)

MAX_FILE = 4 * 1024 * 1024
"""Bytes of a file."""
TAG = "tag:yaml.org,2002:"
KINDS = {"str": "text", "bool": "true or false", "int": "a number", "float": "a number", "null": "nothing"}
KINDS |= {"map": "a mapping", "seq": "a list", "timestamp": "a date"}


class Part:
    """One place of the file, called `name` in messages. Each method raises Odd when something else is there."""

    def __init__(self, node: yaml.Node, name: str) -> None:
        self._node = node
        self.name = name
        self.line = node.start_mark.line + 1

    def odd(self, sentence: str) -> Odd:
        """The error that points here."""
        return Odd(self.line, sentence)

    def text(self) -> str:
        """A string that is not empty."""
        value = str(self._scalar("str", "text"))
        if not value.strip():
            raise self.odd(f"`{self.name}` is empty")
        return value

    def flag(self) -> bool:
        """True or false."""
        return yaml.SafeLoader.bool_values[self._scalar("bool", "true or false").lower()]

    def choice(self, kind: type[E]) -> E:
        """One of the words of an enum."""
        word = self.text()
        try:
            return kind(word)
        except ValueError:
            words = [one.value for one in kind]
            known = ", ".join(f"`{one}`" for one in words)
            raise self.odd(f"`{self.name}` cannot be `{word[:80]}`: it is one of {known}{_near(word, words)}") from None

    def items(self) -> list["Part"]:
        """The members of a list."""
        if not isinstance(self._node, yaml.SequenceNode) or self._node.tag != f"{TAG}seq":
            raise self._not("a list")
        return [Part(node, self.name) for node in self._node.value]

    @property
    def is_mapping(self) -> bool:
        """True for a mapping, also for one that will turn out to be odd."""
        return isinstance(self._node, yaml.MappingNode)

    def pairs(self) -> dict[str, "Part"]:
        """The members of a mapping with free keys."""
        if not isinstance(self._node, yaml.MappingNode) or self._node.tag != f"{TAG}map":
            raise self._not("a mapping")
        found: dict[str, Part] = {}
        for key_node, node in self._node.value:
            key = Part(key_node, "key").text()
            if key in found:
                raise Odd(key_node.start_mark.line + 1, f"key `{key}` is there twice")
            found[key] = Part(node, key)
            found[key].line = key_node.start_mark.line + 1
        return found

    def members(self, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, "Part"]:
        """The members of a mapping with these keys and no others."""
        found = self.pairs()
        known = [*required, *optional]
        for key, part in found.items():
            if key not in known:
                others = _near(key, known) or f": the keys here are {', '.join(f'`{one}`' for one in known)}"
                raise part.odd(f"unknown key `{key[:80]}`{others}")
        for key in required:
            if key not in found:
                raise self.odd(f"`{key}` is missing")
        return found

    def _scalar(self, tag: str, wanted: str) -> str:
        if not isinstance(self._node, yaml.ScalarNode) or self._node.tag != TAG + tag:
            raise self._not(wanted)
        return str(self._node.value)

    def _not(self, wanted: str) -> Odd:
        kind = KINDS.get(self._node.tag.removeprefix(TAG), f"something with the tag `{self._node.tag[:80]}`")
        hint = ": put it in quotes" if wanted == "text" and isinstance(self._node, yaml.ScalarNode) else ""
        return self.odd(f"`{self.name}` must be {wanted}, not {kind}{hint}")


def read_yaml(path: Path) -> Part:
    """The one document of a file. Raises InvalidInput, with the line where there is one."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InvalidInput(f"`{path}` cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise InvalidInput(f"`{path}` is larger than {MAX_FILE} bytes")
    try:
        node = yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise InvalidInput(f"`{path}` is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InvalidInput(f"{where}: this is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        why = getattr(error, "reason", "it is nested too deeply")
        raise InvalidInput(f"`{path}` is not YAML: {why}") from None
    if node is None:
        raise InvalidInput(f"`{path}` is empty")
    return Part(node, "the file")


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f": did you mean `{near[0]}`?" if near else ""
