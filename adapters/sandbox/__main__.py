"""python -m adapters.sandbox --port 8700 --ledger sandbox.sqlite3"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

import uvicorn

from adapters.broker import Broker, BrokerUrlInvalid
from adapters.callback_secrets import CallbackSecrets
from adapters.sandbox.app import create_app
from adapters.sandbox.broken import SandboxProtocol
from adapters.sandbox.callbacks import origin_of, secret_of
from adapters.sandbox.ledger import Ledger, LedgerUnusable
from adapters.signatures import key_of

logger = logging.getLogger("sandbox")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m adapters.sandbox")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8700)
    parser.add_argument(
        "--ledger", type=Path, required=True, help="SQLite file; made when it is not there"
    )
    parser.add_argument(
        "--callback-origin",
        action="append",
        default=[],
        metavar="URL",
        help="where callbacks may go, such as http://web:8000; repeatable; without it, only to "
        "this machine",
    )
    parser.add_argument(
        "--broker",
        default=os.environ.get("OMS_SANDBOX_BROKER_URL", ""),
        metavar="URL",
        help="where the systems that are reached by messages take their commands from; better in "
        "OMS_SANDBOX_BROKER_URL when it holds a password",
    )
    options = parser.parse_args()
    try:
        broker = Broker(url=options.broker, timeout_seconds=5) if options.broker else None
    except BrokerUrlInvalid as error:
        parser.error(str(error))
    origins = {origin_of(url) for url in options.callback_origin}
    if None in origins:
        parser.error("--callback-origin takes addresses such as http://web:8000")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        secrets = CallbackSecrets.read(names=os.environ, look_up=secret_of)
        ledger = Ledger(path=options.ledger)
    except (OSError, LedgerUnusable) as error:
        parser.exit(1, f"{error}\n")
    for name, secret in secrets.by_variable.items():
        if not key_of(secret):
            parser.exit(1, f"{name} begins with whsec_, but no base64 of a key follows.\n")
    if not secrets.by_variable:
        logger.warning("No OMS_CALLBACK_SECRET is set: asynchronous commands will be refused.")
    logger.info("http://%s:%s, ledger %s", options.host, options.port, options.ledger)
    uvicorn.run(
        create_app(
            ledger=ledger,
            secrets=secrets,
            callback_origins={origin for origin in origins if origin is not None},
            broker=broker,
        ),
        host=options.host,
        port=options.port,
        http=SandboxProtocol,
        access_log=False,
        log_level="warning",
        # Clients that are kept waiting on purpose must not keep the process alive.
        timeout_graceful_shutdown=1,
        server_header=False,
    )


if __name__ == "__main__":
    main()
