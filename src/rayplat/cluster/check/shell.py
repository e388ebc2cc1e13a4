"""What a node's commands of shell come to: the files that they write, and what each program is started with.

Knows as much of the shell as start commands need: quotes, subshells, exports, files that are read in and
written. It does not know which program may be started how, nor what a condition (`&&`) decides.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ENDS = "();|&\n"
_UNIT_RUNS = "ExecStart="
_UNKNOWN = "/dev/unknown"


@dataclass(frozen=True, slots=True)
class Start:
    """A program that is started: its words, and the variables that were set for it by then."""

    words: tuple[str, ...]
    variables: Mapping[str, str]

    def runs(self, *words: str) -> bool:
        """Whether this is a program and what it is told first, wherever the program lies."""
        plain = [word.rpartition("/")[2] for word in self.words]
        return any(tuple(plain[at : at + len(words)]) == words for at in range(len(plain)))


def starts(text: str, files: Mapping[str, str]) -> list[Start]:
    """The programs that a text of shell starts, in order.

    Args:
        text: the commands.
        files: path to text of what was written before, for `. FILE`.

    Raises:
        ValueError: a quote has no end.
    """
    return list(_walk(text, files, [{}]))


def _walk(text: str, files: Mapping[str, str], scopes: list[dict[str, str]]) -> Iterator[Start]:
    for words in _statements(text):
        if words == ["("]:
            scopes.append(dict(scopes[-1]))
        elif words == [")"]:
            # One too many is the shell's affair; what a subshell sets is gone with it.
            scopes[:] = scopes[:-1] or [{}]
        elif words[0] == "export":
            scopes[-1].update(_assigned(words[1:]))
        elif words[0] in (".", "source") and len(words) > 1:
            if home(words[1]) in files:
                yield from _walk(files[home(words[1])], files, scopes)
            else:
                scopes[-1].clear()  # it may set anything to anything
        else:
            yield Start(tuple(words), {**scopes[-1], **_assigned(words)})


def _assigned(words: list[str]) -> dict[str, str]:
    """`NAME=value` wherever it stands: before a program, after `env` or after `export`."""
    found = (word.partition("=") for word in words)
    return {name: value for name, equals, value in found if equals and name.isidentifier()}


def _statements(text: str) -> Iterator[list[str]]:
    """The words of each simple command; a parenthesis is a statement of its own."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    words: list[str] = []
    for token in lexer:
        if not token or token[0] not in _ENDS or token.strip(_ENDS):
            words.append(token)
            continue
        if words:
            yield words
        words = []
        yield from ([mark] for mark in token if mark in "()")
    if words:
        yield words


def written(commands: list[str]) -> dict[str, str]:
    """The files that `printf %s TEXT` writes, by path; what is piped on through `tee` too.

    What something else is added to ends in a file that nobody knows.

    Raises:
        ValueError: a quote has no end.
    """
    found: dict[str, str] = {}
    for command in commands:
        piped = ""
        for words in _statements(command):
            if words[:2] == ["printf", "%s"] and len(words) > 2:
                piped = words[2]
                if words[3:4] == [">"] and len(words) > 4:
                    found[home(words[4])] = piped
            elif ">>" in words[:-1]:
                path = home(words[words.index(">>") + 1])
                found[path] = f"{found.get(path, '')}\n. {_UNKNOWN}\n"
            elif "tee" in words[:-1] and piped:
                path = next(word for word in words[words.index("tee") + 1 :] if not word.startswith("-"))
                found[home(path)] = piped
    return found


def unit_starts(files: Mapping[str, str]) -> dict[str, list[Start]]:
    """What the units of systemd among written files start, by the path of the unit.

    Raises:
        ValueError: a quote has no end.
    """
    found = {}
    for path, text in files.items():
        lines = [line for line in text.splitlines() if line.startswith(_UNIT_RUNS)]
        if lines:
            script = home(lines[-1].removeprefix(_UNIT_RUNS).split()[-1])
            found[path] = starts(files.get(script, ""), files)
    return found


def home(path: str) -> str:
    """A path with the user's folder written in one way."""
    for prefix in ("~/", "@HOME@/", "${HOME}/"):
        if path.startswith(prefix):
            return f"$HOME/{path.removeprefix(prefix)}"
    return path
