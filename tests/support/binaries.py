"""The compiled program in both its forms, and the processes started from it."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.paths import ROOT
from tests.support.waiting import wait_until

BUILT = ROOT / "build" / "binary"


@dataclass
class Program:
    """One form of the program. `home` has its caches, `temp` its temporary files."""

    form: str
    path: Path
    home: Path
    temp: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of the machine's user but where he is; no Python's folder on the PATH."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.temp),
            "LANG": "C.UTF-8",
            **more,
        }

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.path), *words],
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def serve(self, data: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
        """Start a daemon and wait until it listens."""
        log = data.parent / f"{data.name}-{len(self.started)}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    str(self.path),
                    "schedd",
                    "serve",
                    "--data",
                    str(data),
                    "--workers",
                    "2",
                    *options,
                ],
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        wait_until(
            lambda: '"listening"' in log.read_text() or process.poll() is not None, "listening"
        )
        return process

    def family(self) -> list[psutil.Process]:
        """All processes of the program that live, of whatever parent."""
        mark = str(self.home)
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("HOME") == mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def end(program: Program) -> bool:
    """Terminate the remaining processes; daemons that a client started exit alone."""
    for process in program.family():
        try:
            os.kill(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    return False
