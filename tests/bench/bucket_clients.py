"""Compare obstore with botocore, to justify the choice of the bucket's client.

Needs both, and SeaweedFS (requirements).

python tests/bench/bucket_clients.py      # with boto3 installed next to it, `pip install boto3`
"""

from __future__ import annotations

import importlib.metadata
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.s3_server import BUCKET, KEY, SECRET, S3Server

PARTS = {
    "obstore": ("obstore",),
    "boto3": ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six"),
}


def installed(names: tuple[str, ...]) -> int:
    """Bytes of the files of some distributions."""
    total = 0
    for name in names:
        for file in importlib.metadata.files(name) or []:
            path = Path(str(file.locate()))
            total += path.stat().st_size if path.is_file() else 0
    return total


def importing(statement: str) -> float:
    """Median seconds of an import in a process of its own."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    return statistics.median(
        float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(7)
    )


def median(work: Callable[[], Any], count: int) -> float:
    """Median milliseconds of a call."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def main() -> None:
    """Print the table."""
    import boto3
    import obstore
    from obstore.store import S3Store

    with tempfile.TemporaryDirectory() as name:
        server = S3Server(Path(name)).start()
        try:
            light = S3Store(
                BUCKET,
                endpoint=server.endpoint,
                access_key_id=KEY,
                secret_access_key=SECRET,
                region="auto",
                client_options={"allow_http": True},
            )
            heavy = boto3.client(
                "s3",
                endpoint_url=server.endpoint,
                aws_access_key_id=KEY,
                aws_secret_access_key=SECRET,
                region_name="auto",
            )
            etags = {"o": obstore.put(light, "o", b"x" * 1000)["e_tag"], "b": ""}
            etags["b"] = heavy.put_object(Bucket=BUCKET, Key="b", Body=b"x" * 1000)["ETag"]

            def light_cas() -> None:
                etags["o"] = obstore.put(
                    light, "o", str(time.time()).encode(), mode={"e_tag": etags["o"]}
                )["e_tag"]

            def heavy_cas() -> None:
                body = str(time.time()).encode()
                etags["b"] = heavy.put_object(
                    Bucket=BUCKET, Key="b", Body=body, IfMatch=etags["b"]
                )["ETag"]

            def heavy_get() -> bytes:
                return heavy.get_object(Bucket=BUCKET, Key="b")["Body"].read()

            rows = {
                "installed, MB": tuple(f"{installed(parts) / 1e6:.1f}" for parts in PARTS.values()),
                "import, ms": (
                    f"{importing('import obstore, obstore.store') * 1000:.0f}",
                    f"{importing('import boto3; boto3.client') * 1000:.0f}",
                ),
                "compare-and-swap of 1 kB, ms": (
                    f"{median(light_cas, 100):.2f}",
                    f"{median(heavy_cas, 100):.2f}",
                ),
                "get of 1 kB, ms": (
                    f"{median(lambda: bytes(obstore.get(light, 'o').bytes()), 100):.2f}",
                    f"{median(heavy_get, 100):.2f}",
                ),
            }
        finally:
            server.close()
    print("| | obstore | boto3 |\n| --- | ---: | ---: |")
    for what, values in rows.items():
        print(f"| {what} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
