"""Declares, parses, loads and documents settings, for the daemon, the client and the bucket alike.

A table of settings is a frozen dataclass. Each field says by `setting` what it accepts and means;
flag, environment variable and file key follow from its name. Adding a setting means adding one
field:

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        drain_s: float = setting(30.0, number(0, 3600), "seconds, 0 to 3600", "Time to shut down.")

    TABLE = SettingsTable(Settings, prefix="SCHEDD_")
    settings = TABLE.load({"drain_s": 5}, os.environ, TABLE.read_file(path))

A flag (or argument) wins over the environment, the environment over the file. Whatever is wrong
raises `SettingError`; each package turns it into its own exception.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

_T = TypeVar("_T")
_METADATA = "setting"

#: Returns the typed value of a raw one (text, or a value of a TOML file), or raises
#: `InvalidValueError`.
Parser = Callable[[Any], Any]


class InvalidValueError(ValueError):
    """A value that a parser does not accept. The text completes "expected ..."."""

    def __init__(self, expected: str, hint: str = "") -> None:
        super().__init__(expected, hint)
        self.expected = expected
        self.hint = hint


class SettingError(Exception):
    """A setting, or the file of settings, is wrong. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint


# Parsers ------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    """Parse a text that is not blank."""
    if not isinstance(value, str):
        raise InvalidValueError("a string", "Put it in quotation marks.")
    if not value.strip():
        raise InvalidValueError("a string")
    return value.strip()


def text_or_path(value: Any) -> str:
    """Parse a text that may be given as a path."""
    return text(str(value) if isinstance(value, os.PathLike) else value)


def path(value: Any) -> Path:
    """Parse a path; `~` is the user's home."""
    return Path(text_or_path(value)).expanduser()


def texts(value: Any) -> tuple[str, ...]:
    """Parse an array of strings (file), or one with commas or spaces between them (environment)."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise InvalidValueError("strings, separated by commas")


def number(low: float, high: float, unit: str = "seconds", hint: str = "") -> Parser:
    """Return a parser of numbers from `low` to `high`."""

    def parse(value: Any) -> float:
        try:
            parsed = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            parsed = float("nan")
        if not low <= parsed <= high:
            raise InvalidValueError(f"a number of {unit} from {low:g} to {high:g}", hint)
        return parsed

    return parse


def integer(low: int, high: int) -> Parser:
    """Return a parser of whole numbers from `low` to `high`."""

    def parse(value: Any) -> int:
        try:
            parsed = low - 1 if isinstance(value, bool | float) else int(value)
        except (TypeError, ValueError):
            parsed = low - 1
        if not low <= parsed <= high:
            raise InvalidValueError(f"a whole number from {low} to {high}")
        return parsed

    return parse


def choice(*options: str) -> Parser:
    """Return a parser that accepts only `options`."""

    def parse(value: Any) -> str:
        if value not in options:
            raise InvalidValueError("one of " + ", ".join(options))
        return str(value)

    return parse


# Declarations -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One setting of a table.

    name: the key in the file, and the attribute.   flag, variable: on the command line and in the
    environment.   accepts: the accepted values, for help and docs.   default_text: the default as
    docs name it.   many: the flag may be repeated.   secret: errors and the `repr` of the settings
    do not show the value, and it is not accepted as a flag: other users can read command lines.
    """

    name: str
    flag: str
    variable: str
    parse: Parser
    default: Any
    accepts: str
    help: str
    default_text: str
    many: bool = False
    secret: bool = False


def setting(
    default: Any,
    parse: Parser,
    accepts: str,
    help: str,  # noqa: A002 - the word of command lines
    *,
    variable: str = "",
    default_text: str = "",
    many: bool = False,
    secret: bool = False,
) -> Any:
    """Return a dataclass field that declares a setting; see `Setting` for the arguments.

    default: the value if no source has one, or a function that computes it (then name it in
    `default_text`).   variable: only if it does not follow from the field's name.
    """
    metadata = {
        "parse": parse,
        "accepts": accepts,
        "help": help,
        "variable": variable,
        "default_text": default_text,
        "many": many,
        "secret": secret,
    }
    if callable(default):
        return field(default_factory=default, metadata={_METADATA: metadata}, repr=not secret)
    return field(default=default, metadata={_METADATA: metadata}, repr=not secret)


def _declared(declaration: Field[Any], prefix: str) -> Setting:
    """Return the setting that a dataclass field declares.

    The unit of seconds is part of the name but not of flag and variable.
    """
    metadata = dict(declaration.metadata[_METADATA])
    short = declaration.name.removesuffix("_s")
    default = None if declaration.default is MISSING else declaration.default

    if default in (None, "", ()):
        default_text = "none"
    else:
        default_text = f"{default:g}" if isinstance(default, float) else str(default)
    return Setting(
        name=declaration.name,
        flag="--" + short.replace("_", "-"),
        variable=metadata.pop("variable") or prefix + short.upper(),
        default=default,
        default_text=metadata.pop("default_text") or default_text,
        **metadata,
    )


# Tables -------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """A raw value, and where it was found: a flag, a variable, a file."""

    value: Any
    source: str


class SettingsTable(Generic[_T]):
    """The settings of a dataclass, in their order.

    prefix: of the environment variables.   arguments: the first source is a call's arguments
    rather than the flags of a command line; errors name no source then.
    """

    def __init__(self, kind: type[_T], prefix: str, *, arguments: bool = False) -> None:
        self._kind = kind
        self._arguments = arguments
        self._by_name = {
            each.name: _declared(each, prefix)
            for each in fields(kind)  # type: ignore[arg-type]
        }

    def __iter__(self) -> Iterator[Setting]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Setting:
        return self._by_name[name]

    def load(
        self,
        given: Mapping[str, Any],
        environment: Mapping[str, str],
        in_file: Mapping[str, Any] | None = None,
        file: str = "",
    ) -> _T:
        """Return the settings of these sources; the first source that has a setting counts.

        given: name -> value of flags or arguments, None or () if not given.   in_file: the values
        of the file that is called `file`.
        """
        return self.parse(self.find(given, environment, in_file, file))

    def find(
        self,
        given: Mapping[str, Any],
        environment: Mapping[str, str],
        in_file: Mapping[str, Any] | None = None,
        file: str = "",
    ) -> dict[str, Found]:
        """Return the raw value and the source of each setting that a source has.

        An empty variable counts as not set.
        """
        found = {}
        for each in self:
            value = given.get(each.name)
            if value is not None and value != ():
                if each.secret and not self._arguments:
                    raise SettingError(
                        f"{each.flag} is not accepted: other users can read command lines",
                        f"Use {each.flag}-file, or set {each.variable}.",
                    )
                found[each.name] = Found(value, "" if self._arguments else each.flag)
            elif environment.get(each.variable):
                found[each.name] = Found(environment[each.variable], each.variable)
            elif in_file is not None and each.name in in_file:
                found[each.name] = Found(in_file[each.name], file)
        return found

    def parse(self, found: Mapping[str, Found]) -> _T:
        """Return the settings of raw values, with defaults for all others."""
        return self._kind(
            **{name: _parsed(self._by_name[name], *each) for name, each in found.items()}
        )

    def read_file(self, file: Path) -> dict[str, Any]:
        """Return the raw values of a TOML file. Raises `FileNotFoundError` if there is none."""
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SettingError(
                f"the settings file {file} cannot be read: {error.strerror}"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingError(f"the settings file {file} is not valid TOML: {error}") from None

        for name in values:
            if name not in self._by_name:
                raise SettingError(f"{file}: unknown setting {name!r}", self.suggestion(name))
        return values

    def suggestion(self, name: str) -> str:
        """Return a hint for an unknown name: the similar one, or all."""
        similar = did_you_mean(name, self._by_name)
        return similar or f"Known settings: {', '.join(self._by_name)}."

    def markdown(self) -> str:
        """Return the table for docs/SETTINGS.md; arguments have no column of flags."""
        names = ["setting (file, argument)"] if self._arguments else ["setting (file)", "flag"]
        head = [*names, "environment", "accepts", "default", "meaning"]
        lines = [_row(head), _row(["---"] * len(head))]
        for each in self:
            spelled = [each.name, each.flag, each.variable]
            if self._arguments:
                spelled.remove(each.flag)
            codes = [f"`{word}`" for word in spelled]
            if each.secret and not self._arguments:
                codes[1] = "none"
            lines.append(_row([*codes, each.accepts, each.default_text, each.help]))
        return "\n".join(lines) + "\n"


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the question for a name that is similar to a known one, otherwise an empty string.

    cutoff: how similar, from 0 to 1.
    """
    near = difflib.get_close_matches(name, list(known), 1, cutoff)
    return f"Did you mean {near[0]}?" if near else ""


def _parsed(declared: Setting, value: Any, source: str) -> Any:
    try:
        return declared.parse(value)
    except InvalidValueError as error:
        shown = "***" if declared.secret else f"{value!r:.80}"
        where = f"{source}: " if source else ""
        raise SettingError(
            f"{where}invalid {declared.name} {shown}: expected {error.expected}", error.hint
        ) from None


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
