"""Parse a shell tool's command, so that the values of its arguments never reach a shell's parser.

A command without shell syntax becomes a list of arguments for the program. In any other command `{x}` becomes
`"$arg_x"`, and the value is an environment variable: the shell replaces it after it has parsed the command.

Refused, because a shell would parse the value: a placeholder inside quotes (its own quotes would end there), after `$`,
in arithmetic, with a here-document, and as the script of `eval`, `sh -c`, `ssh` and others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SPECIAL = frozenset("|&;<>()$`*?[]~\n{}")
"""Characters that a shell interprets outside quotes."""
_OPERATORS = frozenset("|&;()\n")
"""Characters that end a simple command."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BUILTINS = _words(
    ". : alias bg break cd command continue eval exec exit export fg getopts hash jobs read readonly return set shift "
    "source times trap type ulimit umask unalias unset wait ! case do done elif else esac fi for if in then until "
    "while function select time"
)
"""Words that only a shell runs."""
_EVALUATES = _words("eval source . trap alias let declare typeset local [[ ssh rsh watch parallel")
"""Commands that give their arguments to a shell's parser, or evaluate them."""
_SHELLS = _words("sh bash dash zsh ksh mksh ash fish csh tcsh busybox su sudo doas")
_BARE_SHELLS = _SHELLS - {"su", "sudo", "doas"}
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")


class CommandError(ValueError):
    """Report a command that is not valid."""


@dataclass(frozen=True, slots=True)
class Argument:
    """Stand for the value of an argument in a word of a command."""

    name: str


Word = tuple["str | Argument", ...]


@dataclass(frozen=True, slots=True)
class Command:
    """A command that was parsed; `script` is None if it needs no shell."""

    words: tuple[Word, ...]
    script: str | None
    names: tuple[str, ...]
    """The names of the arguments, in the order of the command."""

    def argv(self, values: Mapping[str, str]) -> list[str]:
        """Return the program and its arguments."""
        if self.script is not None:
            return ["/bin/sh", "-c", self.script]
        return ["".join(part if isinstance(part, str) else values[part.name] for part in word) for word in self.words]

    def environment(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return the environment variables that hold the values."""
        return {} if self.script is None else {f"arg_{name}": values[name] for name in self.names}


@lru_cache(maxsize=256)
def parse_command(text: str) -> Command:
    """Return the command of a text.

    Raises:
        CommandError: the quotes do not match, or a value would reach a shell's parser.
    """
    scan = _Scan(text)
    scan.run()
    if not scan.commands or not any(scan.commands):
        raise CommandError("the command is empty")
    if scan.names:
        _refuse_evaluation(scan.commands)
        if scan.here_document:
            raise CommandError(
                "a here-document (<<) cannot be used together with arguments: their quotes would be part of the text; "
                "use printf '%s' {name} | ..."
            )
    first = _literal(scan.commands[0][0]) if scan.commands[0] else ""
    needs_shell = scan.special or first in _BUILTINS or bool(_ASSIGNMENT.match(first))
    return Command(
        tuple(scan.commands[0]), "".join(scan.script) if needs_shell else None, tuple(dict.fromkeys(scan.names))
    )


@dataclass(slots=True)
class _Scan:
    """Read a command from left to right as a shell would."""

    text: str
    at: int = 0
    quote: str = ""
    """The quote that is open, else empty."""
    special: bool = False
    here_document: bool = False
    arithmetic: bool = False
    """True after `((`."""
    braces: int = 0
    """How many `{{` have no `}}` yet."""
    names: list[str] = field(default_factory=list[str])
    script: list[str] = field(default_factory=list[str])
    word: list[str | Argument] | None = None
    commands: list[list[Word]] = field(default_factory=lambda: [[]])
    """The words of each simple command."""

    def run(self) -> None:
        while self.at < len(self.text):
            found = _PLACEHOLDER.match(self.text, self.at)
            doubled = self.text[self.at : self.at + 2]
            if doubled == "{{" or (doubled == "}}" and self.braces):
                self.braces += 1 if doubled == "{{" else -1
                self.at += 1
                self._character(doubled[0])
            elif found is not None:
                self._argument(found[1])
                self.at += len(found[0])
            elif self.text[self.at] == "\\" and self.quote != "'":
                self._escape()
            else:
                self._character(self.text[self.at])
        if self.quote:
            raise CommandError(f"a quote ({self.quote}) is not closed")
        self._end_word()

    def _argument(self, name: str) -> None:
        if self.quote:
            raise CommandError(
                f"the placeholder {{{name}}} is inside quotes; take the quotes away, each value is one argument as it "
                f"is. For braces that are no placeholder write {{{{{name}}}}}"
            )
        if self.script and self.script[-1] == "$":
            raise CommandError(
                f"the placeholder {{{name}}} comes after '$'; for an environment variable write ${name} or "
                f"${{{{{name}}}}}"
            )
        if self.arithmetic:
            raise CommandError(f"the placeholder {{{name}}} may be in arithmetic, where a shell evaluates its value")
        self.names.append(name)
        self.script.append(f'"$arg_{name}"')
        self._open_word().append(Argument(name))

    def _escape(self) -> None:
        char = self.text[self.at + 1 : self.at + 2]
        self.script.append("\\" + char)
        if char == "\n":
            pass  # a line that continues
        elif self.quote and char not in '"\\$`':
            self._open_word().append("\\" + char)
        else:
            self._open_word().append(char)
        self.at += 2

    def _character(self, char: str) -> None:
        self.at += 1
        self.script.append(char)
        if self.quote:
            self._quoted(char)
        elif char in "'\"":
            self.quote = char
            self._open_word()
        elif char in _OPERATORS:
            self.special = True
            self.arithmetic = self.arithmetic or (char == "(" and self.script[-2:-1] == ["("])
            self._end_word()
            self.commands.append([])
        elif char in " \t\r":
            self._end_word()
        elif char == "#" and self.word is None:
            self._comment()
        elif char in "<>":
            self.special = True
            self.here_document = self.here_document or self.text.startswith("<<", self.at - 1)
            self._end_word()
        else:
            self.special = self.special or char in _SPECIAL
            self._open_word().append(char)

    def _quoted(self, char: str) -> None:
        if char == self.quote:
            self.quote = ""
        else:
            self.special = self.special or (self.quote == '"' and char in "$`")
            self._open_word().append(char)

    def _comment(self) -> None:
        self.special = True
        end = self.text.find("\n", self.at)
        self.script.pop()
        self.at = len(self.text) if end < 0 else end

    def _open_word(self) -> list[str | Argument]:
        if self.word is None:
            self.word = []
        return self.word

    def _end_word(self) -> None:
        if self.word is not None:
            self.commands[-1].append(tuple(self.word))
            self.word = None


def _refuse_evaluation(commands: Sequence[Sequence[Word]]) -> None:
    """Raise if a command with arguments would parse or evaluate their values."""
    for words in commands:
        names = [part.name for word in words for part in word if isinstance(part, Argument)]
        programs = [_literal(word).rpartition("/")[2] for word in words]
        evaluates = next((program for program in programs if program in _EVALUATES), None)
        if names and evaluates:
            raise CommandError(
                f"{evaluates!r} would evaluate the value of {{{names[0]}}}; call a program that takes it as an argument"
            )
        if not any(program in _SHELLS for program in programs):
            continue
        script = next(_scripts(words), None)
        if script is not None and any(isinstance(part, Argument) for part in script):
            raise CommandError(
                "a shell would parse the value of an argument as its script (-c); give it as a further argument, as in "
                "sh -c 'grep -- \"$1\" notes.txt' sh {name}"
            )
        plain = [word for word in programs if not word.startswith("-")]
        if plain and plain[0] in _BARE_SHELLS and len(plain) == 1:
            raise CommandError(f"{plain[0]!r} reads its script from the input, which may hold the value of an argument")
        if {"xargs", "find"} & {*programs} and script is not None and len(commands) > 1:
            raise CommandError("xargs and find would put input into a shell's script; call the program without a shell")


def _scripts(words: Sequence[Word]) -> Iterator[Word]:
    """Yield the words that follow `-c`."""
    for option, script in pairwise(words):
        if re.fullmatch(r"-[A-Za-z]*c", _literal(option)):
            yield script


def _literal(word: Word) -> str:
    return "".join(part if isinstance(part, str) else "" for part in word)
