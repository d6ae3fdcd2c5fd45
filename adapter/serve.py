"""Serves with the settings of the environment and the YAML file."""

import gc
import logging.config
import os
import socket
import sys
import tempfile
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from adapter.app import create_app
from adapter.metrics.recorder import SHARED_FOLDER
from adapter.settings import Settings, SettingsError, load_settings


def main() -> None:
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.exit(f"adapter: {error}")
    config = uvicorn.Config(
        "adapter.serve:served_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        log_config=log_config(settings),
        timeout_graceful_shutdown=settings.shutdown_timeout_s,
    )
    logging.config.dictConfig(log_config(settings))
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    logging.getLogger("adapter").info(
        "listening on http://%s:%d, Triton at %s", f"[{host}]" if ":" in host else host, port, settings.triton_url
    )
    if settings.workers > 1:
        with tempfile.TemporaryDirectory(prefix="adapter-metrics-") as folder:
            os.environ[SHARED_FOLDER] = folder  # the workers inherit it
            Multiprocess(config, sockets=[listener]).run()
    else:
        uvicorn.Server(config).run(sockets=[listener])


def served_app() -> FastAPI:
    """The app in a process that does nothing else."""
    app = create_app()
    gc.collect()
    gc.freeze()  # what is loaded stays: to look through it for garbage would hold up all streams
    gc.set_threshold(10_000)  # by default that is so often that it shows in profiles
    return app


def log_config(settings: Settings) -> dict[str, Any]:
    """One handler on standard error; the adapter's own messages and, from warnings up, everybody else's."""
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "adapter": {"level": level},
            "adapter.requests": {"level": level if settings.access_log else "WARNING"},
            "uvicorn": {"level": "WARNING"},
        },
    }


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        sys.exit(f"adapter: cannot listen on {settings.host} port {settings.port}: {_reason(error)}")
    listener.set_inheritable(True)
    return listener


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno is None:
        return str(error.strerror or error)
    return os.strerror(error.errno)
