"""Check that an image has what a machine needs, and that its daemon and commands work.

`image-check.sh` calls it. Arguments: the image's root file system, and a file with the output of
`buildah inspect`. The image's programs run by chroot.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from licences import from_sbom, refused

COMMANDS = (
    "schedd",
    "schedctl",
    "scheduler-help",
    "db-info",
    "run-reliable-scheduler",
    "run-highperf-scheduler",
)
#: Build tools, which must not be in the image.
ABSENT = ("usr/bin/gcc", "usr/bin/python3", "build", "root/.cache")


class Image:
    """The image's root file system and configuration."""

    def __init__(self, root: Path, config: dict[str, Any]) -> None:
        self.root, self.config = root, config
        self.environment = dict(entry.split("=", 1) for entry in config.get("Env") or [])
        self.environment = {
            name: value for name, value in self.environment.items() if not name.startswith("PIP_")
        }

    def command(self, *words: str) -> list[str]:
        return [
            "chroot",
            str(self.root),
            "/usr/bin/env",
            "-i",
            *(f"{n}={v}" for n, v in self.environment.items()),
            *words,
        ]

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != code:
            raise SystemExit(
                f"{' '.join(words)}: exit code {done.returncode} instead of {code}\n"
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout


def say(text: str) -> None:
    print(f"  {text}")


def check_contents(image: Image) -> None:
    for name in ABSENT:
        if (image.root / name).exists():
            raise SystemExit(f"/{name} is in the image")
    for name in (*COMMANDS, "sqlite3", "htop"):
        image.run("sh", "-c", f"command -v {name}")
    image.run("sqlite3", "--version")
    say(f"commands on the PATH: {', '.join(COMMANDS)}, sqlite3, htop")


def check_bill_of_materials(image: Image) -> None:
    """The bill of materials is in the image, and all licences in it are accepted."""
    parts = from_sbom(image.root / "usr/share/doc/email-scheduler/sbom.cdx.json")
    problems = refused(parts)
    if problems:
        raise SystemExit("\n".join(problems))
    say(f"bill of materials: {len(parts)} components, all licences accepted")


def wait_for(log: Path, text: str) -> float:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if text in log.read_text():
            return time.monotonic()
        time.sleep(0.005)
    raise SystemExit(f"no {text!r} within 30 seconds; the log:\n{log.read_text()}")


def check_daemon(image: Image) -> None:
    """Start the image's command as a machine would, use it, and stop it."""
    for path in (image.root / "data").iterdir():
        raise SystemExit(f"/data is not empty: {path.name}")
    os.chown(image.root / "data", 0, 0)  # a new volume belongs to root
    os.makedirs(image.root / "dev/shm", exist_ok=True)
    command = [str(word) for word in image.config["Cmd"]]
    log = Path(f"{image.root}.log")
    with log.open("wb") as output:
        began = time.monotonic()
        daemon = subprocess.Popen(
            image.command(*command), stdout=output, stderr=output, start_new_session=True
        )
    try:
        say(f"{' '.join(command)}: listening after {wait_for(log, 'listening') - began:.2f} s")
        state = Path(f"/proc/{daemon.pid}/status").read_text()
        [uid] = [line.split()[1] for line in state.splitlines() if line.startswith("Uid:")]
        owner = (image.root / "data").stat().st_uid
        if uid == "0" or owner != int(uid):
            raise SystemExit(f"the daemon runs as user {uid}, the volume belongs to {owner}")
        say(f"the daemon is user {uid}, and so is the volume")
        image.run(
            "schedctl",
            "demo",
            "--out",
            "/data/org-123.db",
            "--contacts",
            "5000",
            "--as-of",
            "2026-11-01",
        )
        for name in ("run-reliable-scheduler", "run-highperf-scheduler"):
            result = json.loads(
                image.run(name, "/data/org-123.db", "2", "--as-of", "2026-11-01", "--json")
            )
            say(f"{name}: {result['contacts']} contacts in {result['wall_s']:.2f} s")
        rows = image.run("sqlite3", "/data/org-123.db", "SELECT count(*) FROM email_schedules")
        if int(rows) < 5000:
            raise SystemExit(f"the plan has {rows} rows")
        info = image.run("db-info")
        if "org-123" not in info:
            raise SystemExit(f"db-info does not show the database:\n{info}")
        image.run("scheduler-help")
        doctor = json.loads(image.run("schedctl", "doctor", "--json"))
        if not doctor["ok"]:
            raise SystemExit(f"doctor: {doctor}")
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(60)
        if code != 0:
            raise SystemExit(f"after SIGTERM the daemon's exit code is {code}:\n{log.read_text()}")
        say("SIGTERM: exit code 0")
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait(10)


def main() -> None:
    config = json.loads(Path(sys.argv[2]).read_text())["OCIv1"]["config"]
    image = Image(Path(sys.argv[1]), config)
    # The compiled program finds its libraries through /proc, which every machine has.
    subprocess.run(["mount", "-t", "proc", "proc", str(image.root / "proc")], check=True)
    try:
        check_contents(image)
        check_bill_of_materials(image)
        check_daemon(image)
    finally:
        subprocess.run(["umount", "-l", str(image.root / "proc")], check=True)


if __name__ == "__main__":
    main()
