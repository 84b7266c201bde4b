"""The commands about an organization's configuration: show, check, set, history, withdraw."""

from __future__ import annotations

import codecs
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from schedclient.errors import SettingsError
from schedctl.common import (
    TypoGroup,
    command_hint,
    connection_options,
    handles_errors,
    make_client,
    print_json,
)
from schedctl.exitcodes import ExitCode
from schedctl.views import configuration as show_config
from schedproto import OrganizationConfiguration
from schedproto.configurations import MAX_NAME_CHARACTERS, MAX_TOML_BYTES


@click.group("config", cls=TypoGroup)
def config_command() -> None:
    """Show and change an organization's configuration.

    Each change is a new version. docs/RULES.md, section 13, lists the settings.
    """


def _text_of(path: Path) -> str:
    hint = "Name a TOML file, or - for standard input."
    name = "standard input" if str(path) == "-" else str(path)
    try:
        # Bytes, as the encoding of text streams depends on the machine; and no more than can be
        # sent.
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            content = file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {error.strerror}", hint) from None
    if len(content) > MAX_TOML_BYTES:
        raise SettingsError(
            f"{name} is larger than {MAX_TOML_BYTES:,} bytes",
            "Check that this is a configuration file. " + hint,
        )
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{name} is not UTF-8 text", hint) from None


def _checked_name(
    _context: click.Context, _option: click.Parameter, name: str | None
) -> str | None:
    if name is not None and not (name.isprintable() and len(name) <= MAX_NAME_CHARACTERS):
        raise click.BadParameter(
            f"a name has at most {MAX_NAME_CHARACTERS} characters, all of them printable"
        )
    return name


#: SQLite's numbers end here; larger ones cannot be sent either.
_version = click.IntRange(0, 2**63 - 1)
_file = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
by_option = click.option(
    "--by",
    "author",
    metavar="NAME",
    callback=_checked_name,
    help="Author of the change (default: your user name).",
)


@config_command.command("show")
@click.argument("organization")
@click.option("--toml", "as_toml", is_flag=True, help="Print TOML, with the sources as comments.")
@connection_options
@handles_errors
def show_command(organization: str, *, as_toml: bool, as_json: bool, **options: Any) -> ExitCode:
    """Show ORGANIZATION's settings and where they come from."""
    with make_client(options) as client:
        configuration = client.configuration(organization)
    if as_json:
        print_json(configuration)
    elif as_toml:
        show_config.print_toml(configuration)
    else:
        show_config.print_configuration(configuration)
    return _outcome(configuration)


def _outcome(configuration: OrganizationConfiguration) -> ExitCode:
    return ExitCode.OK if configuration.error is None else ExitCode.JOB_FAILED


@config_command.command("check")
@click.argument("organization")
@_file
@connection_options
@handles_errors
def check_command(organization: str, file: Path, *, as_json: bool, **options: Any) -> None:
    """Check a TOML FILE (- for standard input) and show its effect. Changes nothing."""
    text = _text_of(file)
    with make_client(options) as client:
        before = client.configuration(organization)
        after = client.check_configuration(organization, text)
    if as_json:
        print_json(after)
        return
    click.echo(f"{file} is a valid configuration.")
    show_config.print_changes(before.effective, after.effective)


@config_command.command("set")
@click.argument("organization")
@_file
@by_option
@connection_options
@handles_errors
def set_command(
    organization: str, file: Path, *, author: str | None, as_json: bool, **options: Any
) -> None:
    """Store a TOML FILE (- for standard input) as a new version.

    It applies from the next run. A version replaces the previous one completely. Unknown keys and
    invalid values are rejected.
    """
    text = _text_of(file)
    with make_client(options) as client:
        before = client.configuration(organization)
        after = client.set_configuration(organization, text, author)
    if as_json:
        print_json(after)
        return
    if after.version == before.version:
        click.echo(f"Version {after.version} has the same content; nothing was changed.")
        return
    click.echo(f"Stored version {after.version} of {organization}'s configuration.")
    show_config.print_changes(before.effective, after.effective)
    click.echo(f"Show its effect on the plan: {command_hint('preview', organization)}", err=True)


@config_command.command("history")
@click.argument("organization")
@click.argument("version", type=_version, metavar="[VERSION]", required=False)
@connection_options
@handles_errors
def history_command(
    organization: str, version: int | None, *, as_json: bool, **options: Any
) -> ExitCode:
    """List the stored versions, newest first, or print one.

    With VERSION, prints that version's TOML.
    """
    with make_client(options) as client:
        configuration = client.configuration(organization, version)
    entries = [entry for entry in configuration.versions if version in (None, entry.version)]
    if version is not None and not entries:
        known = ", ".join(str(entry.version) for entry in configuration.versions[:20]) or "none"
        more = ", ..." if len(configuration.versions) > 20 else ""
        raise SettingsError(
            f"{organization} has no version {version} of its configuration",
            f"Existing versions: {known}{more}.",
        )
    if as_json:
        print_json(
            {
                "organization": organization,
                "version": configuration.version,
                "versions": entries,
                "versions_more": configuration.versions_more,
            }
        )
    elif version is not None:
        if entries[0].toml_left_out:
            raise SettingsError(f"the text of version {version} is too large to print")
        click.echo(entries[0].toml, nl=not entries[0].toml.endswith("\n"))
    else:
        show_config.print_versions(configuration)
    return ExitCode.OK


@config_command.command("withdraw")
@click.argument("organization")
@click.argument("version", type=_version, metavar="VERSION")
@by_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@connection_options
@handles_errors
def withdraw_command(
    organization: str, version: int, *, author: str | None, yes: bool, as_json: bool, **options: Any
) -> ExitCode:
    """Withdraw VERSION.

    The newest version that is not withdrawn applies, otherwise the defaults.
    """
    asking = not (yes or as_json) and sys.stdin.isatty()
    if asking and not click.confirm(f"Withdraw version {version} of {organization}?", err=True):
        click.echo("Nothing was changed.", err=True)
        return ExitCode.OK
    with make_client(options) as client:
        before = client.configuration(organization)
        after = client.withdraw_configuration(organization, version, author)
    if as_json:
        print_json(after)
        return _outcome(after)
    applies = "the defaults apply" if after.version is None else f"version {after.version} applies"
    click.echo(f"Version {version} is withdrawn; {applies}.")
    show_config.print_changes(before.effective, after.effective)
    show_config.print_error(after)
    return _outcome(after)
