"""S3 in this process (moto), and a look into its buckets that does not go through our own code.

Its port is free, its answers are those of S3 as far as our calls go; signatures are not checked, keys are when asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import requests
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import ThreadedMotoServer
from werkzeug.serving import make_server

BUCKET = "pearl"
SECRET = "a-secret-that-nobody-may-read"


@dataclass(frozen=True, slots=True)
class S3:
    """A server, its address, and a client of somebody else's making."""

    server: ThreadedMotoServer
    url: str
    client: Any

    def variables(self) -> dict[str, str]:
        """Return the environment of a gateway that uses it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of the bucket below a prefix, without it."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"].removeprefix(prefix) for one in found.get("Contents", ())]

    def sizes(self) -> dict[str, int]:
        """Return the size of every object."""
        return {one["Key"]: one["Size"] for one in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", ())}

    def unfinished(self) -> list[Any]:
        """Return uploads of S3's own multipart kind that nobody finished; they would lie there, unlisted, for ever."""
        return list(self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()))

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Know no key for a while: every call is refused as with a wrong one."""
        self._demand_keys("0")
        try:
            yield
        finally:
            self._demand_keys("inf")

    def _demand_keys(self, after: str) -> None:
        requests.post(f"{self.url}/moto-api/reset-auth", data=after.encode(), timeout=5).raise_for_status()


@contextmanager
def over_tls(certificate: Path, key: Path) -> Iterator[str]:
    """Run a second server over the same buckets that speaks TLS with this certificate; yield its address."""
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, ssl_context=(str(certificate), str(key)), threaded=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def s3_server() -> Iterator[S3]:
    """Run a server with one bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="other", aws_secret_access_key="other", region_name="us-east-1"
        )
        client.create_bucket(Bucket=BUCKET)
        yield S3(server, url, client)
    finally:
        server.stop()
