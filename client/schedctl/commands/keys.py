"""The commands about keys: new, show."""

from __future__ import annotations

import os
from pathlib import Path

import click

from schedclient.errors import SettingsError
from schedctl.common import TypoGroup, handles_errors, json_option, print_json
from schedproto.keys import KeyFormatError, parse_secret_key, render


@click.group("keys", cls=TypoGroup)
def keys_command() -> None:
    """Create and show keys for encrypted connections (CurveZMQ)."""


def _write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that must not exist yet."""
    try:
        # Who can write to the folder could replace a key, whatever the mode of its file.
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise SettingsError(
            f"{path} already exists; keys are never overwritten", "Choose another --out."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be written: {error.strerror}", "Choose another --out."
        ) from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


@keys_command.command("new")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("keys"),
    show_default=True,
    help="Folder to create.",
)
@click.option(
    "--client",
    "clients",
    multiple=True,
    default=("client",),
    show_default=True,
    help="Client name (repeatable).",
)
@json_option
@handles_errors
def new_command(*, out: Path, clients: tuple[str, ...], as_json: bool) -> None:
    """Create key pairs for the daemon and each client.

    Shows how to use them.
    """
    for name in clients:
        if not name.isidentifier() and not name.replace("-", "_").isidentifier():
            raise SettingsError(
                f"{name!r} is not a valid client name", "Use letters, digits and '-'."
            )
    files = {
        "server": out / "server.secret",
        "server_public": out / "server.public",
        "clients": out / "clients",
    }
    _write_pair(
        files["server"],
        "secret key of the daemon: --server-key-file",
        files["server_public"],
        "public key of the daemon: --server-key of clients",
    )
    for name in clients:
        _write_pair(
            out / f"{name}.secret",
            f"secret key of {name}",
            files["clients"] / f"{name}.public",
            f"public key of {name}",
        )

    if as_json:
        print_json(
            {
                **{name: str(path) for name, path in files.items()},
                "secrets": [str(out / f"{n}.secret") for n in clients],
            }
        )
        return
    _print_next_steps(out, files, clients[0])


def _write_pair(secret_file: Path, secret_note: str, public_file: Path, public_note: str) -> None:
    """Create a key pair and write it into two new files."""
    import zmq  # noqa: PLC0415 - only needed here

    public, secret = (key.decode() for key in zmq.curve_keypair())
    _write_new(secret_file, render(public, secret, secret_note), 0o600)
    _write_new(public_file, render(public, None, public_note), 0o644)


def _print_next_steps(out: Path, files: dict[str, Path], client: str) -> None:
    click.echo(f"Keys are in {out}. Start the daemon:")
    click.echo(f"  schedd serve --listen 'tcp://[::]:7300' --server-key-file {files['server']} \\")
    click.echo(f"    --client-keys {files['clients']}")
    click.echo("Connect a client:")
    click.echo(
        f"  schedctl status --endpoint tcp://HOST:7300 --key-file {out / f'{client}.secret'} \\"
    )
    click.echo(f"    --server-key {files['server_public']}")
    click.echo(
        "Or set environment variables: SCHEDD_SERVER_KEY, SCHEDD_ALLOW_CLIENTS; SCHEDCTL_KEY, "
        "SCHEDCTL_SERVER_KEY."
    )


@keys_command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@handles_errors
def show_command(file: Path, *, as_json: bool) -> None:
    """Print the public key of a secret key file."""
    import zmq  # noqa: PLC0415

    try:
        public = zmq.curve_public(parse_secret_key(file.read_text(encoding="ascii"))).decode()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    except (KeyFormatError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not a secret key file: {error}") from None
    if as_json:
        print_json({"public_key": public})
    else:
        click.echo(public)
