"""Where a key of a YAML file stands: line and column of every key and value.

Knows YAML's node marks; it does not know what the keys mean.
"""

from dataclasses import dataclass

import yaml

Keys = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """A line and a column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Places:
    """Positions in one file: of keys, of their values, and the keys that stand there twice."""

    keys: dict[Keys, Position]
    values: dict[Keys, Position]
    doubles: tuple[tuple[Keys, Position, Position], ...]

    def of(self, keys: Keys, *, key: bool = False) -> Position:
        """The position of what `keys` lead to, or of the nearest thing above it that is in the file.

        Args:
            keys: the names and indices on the way.
            key: the position of the key itself, rather than of its value.
        """
        if key and keys in self.keys:
            return self.keys[keys]
        for length in range(len(keys), 0, -1):
            above = keys[:length]
            if above in self.values:
                # What is missing inside a mapping is told at the mapping's own key.
                return self.values[above] if length == len(keys) else self.keys.get(above, self.values[above])
        return Position(1, 1)


def find_places(text: str) -> Places:
    """The positions of all keys and values in a text that parses as YAML.

    Raises:
        yaml.YAMLError: it does not.
    """
    found = Places({}, {}, ())
    doubles: list[tuple[Keys, Position, Position]] = []
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        _walk(root, (), found, doubles)
    return Places(found.keys, found.values, tuple(doubles))


def _walk(node: yaml.Node, at: Keys, found: Places, doubles: list[tuple[Keys, Position, Position]]) -> None:
    found.values[at] = _position(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, str(key.value))
            place = _position(key.start_mark)
            if here in found.keys:
                doubles.append((here, found.keys[here], place))
            found.keys[here] = place
            _walk(value, here, found, doubles)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*at, index), found, doubles)


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)
