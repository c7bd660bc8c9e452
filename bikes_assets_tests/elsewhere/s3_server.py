"""moto's S3 on 127.0.0.1: `python -m bikes_assets_tests.elsewhere.s3_server PORT`."""

from __future__ import annotations

import logging
import sys
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from bikes_assets_tests.elsewhere.servers import CARELESS


class Store:
    """moto's application, careless about one bucket."""

    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"].startswith(f"/{CARELESS}/"):
            environ.pop("HTTP_IF_NONE_MATCH", None)
        return self.moto(environ, start_response)


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # one request at a time: moto looks whether an object is there and stores it in two steps
    make_server("127.0.0.1", int(sys.argv[1]), Store(), threaded=False).serve_forever()
