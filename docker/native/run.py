"""Triton and the adapter without Docker: the Triton binary of a PyPI wheel, under supervisor.

Usage: python run.py up|down|status|logs
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict

from processes import Processes
from settings import PROJECT, Failed, Settings

sys.path.insert(0, str(PROJECT / "docker"))

from announce import announce, call, is_up

MAX_STARTS = 3
"""How often a process may start before `up` gives it up."""


def up(settings: Settings, processes: Processes) -> None:
    """Start what does not run, wait for a real answer, and say what runs where.

    Raises:
        Failed: a port is taken, or the model could not be loaded.
    """
    if processes.are_running:
        settings = settings.of_what_runs()
        print("It runs already.")
    else:
        processes.end_leftovers()
        settings.check_ports()
        settings.save()
        processes.start()
    try:
        wait_until_ready(settings, processes)
    except Failed:
        processes.stop()  # a half-started service helps nobody
        raise
    if not announce(f"native Triton, as {reason()}", settings.adapter_url, settings.values):
        raise Failed(f"the model is loaded but does not answer; see {settings.run_dir}/*.log")


def down(settings: Settings, processes: Processes) -> None:
    """End every process; harmless when none runs."""
    processes.stop()
    print("Stopped.")


def status(settings: Settings, processes: Processes) -> None:
    if not processes.are_running:
        print("Nothing is running; make up starts it.")
        return
    for process in processes.states():
        print(f"{process.name:10}{process.state:10}{process.description}")
    try:
        print(json.dumps(call(f"{settings.of_what_runs().adapter_url}/health", timeout_s=5), indent=2))
    except (OSError, ValueError) as error:
        print(f"the adapter does not answer: {error}")


def logs(settings: Settings, processes: Processes) -> None:
    """Follow the logs until interrupted."""
    files = [str(file) for file in sorted(settings.run_dir.glob("*.log"))]
    if not files:
        raise Failed("there are no logs yet; make up starts the services")
    subprocess.run(["tail", "-n", "50", "-F", *files])


def wait_until_ready(settings: Settings, processes: Processes) -> None:
    """Wait until Triton has loaded its models and the adapter says so.

    Raises:
        Failed: a model failed to load, a process gave up, or it took too long.
    """
    deadline = time.monotonic() + settings.up_timeout_s
    pids: defaultdict[str, set[int]] = defaultdict(set)
    while time.monotonic() < deadline:
        for process in processes.states():
            pids[process.name].add(process.pid)
            if process.state == "FATAL" or len(pids[process.name] - {0}) > MAX_STARTS:
                log = settings.run_dir / f"{process.name}.log"
                raise Failed(f"{process.name} does not start:\n{log.read_text()[-1500:]}\n(the whole log: {log})")
        try:
            models = call(f"{settings.triton_url}/v2/repository/index", {}, timeout_s=5)
            for model in models:
                if model.get("state") == "UNAVAILABLE" and model.get("reason") not in (None, "unloaded"):
                    cause = (
                        model["reason"].split("\n")[0].removeprefix("Internal: ").removeprefix("TritonModelException: ")
                    )
                    log = settings.run_dir / "triton.log"
                    raise Failed(f"model {model['name']} was not loaded: {cause}\n(the whole log: {log})")
            states = [model.get("state") for model in models if model.get("reason") != "unloaded"]
            are_loaded = bool(states) and set(states) == {"READY"}
            if are_loaded and is_up(call(f"{settings.adapter_url}/health/ready", timeout_s=5)):
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.25)
    raise Failed(f"not ready after {settings.up_timeout_s:g} s (UP_TIMEOUT_S); see {settings.run_dir}/*.log")


def reason() -> str:
    if os.environ.get("MODE") == "native":
        return "MODE=native asks for it"
    return "no Docker engine answered" if shutil.which("docker") else "there is no Docker here"


def main() -> None:
    command = sys.argv[1]
    try:
        settings = Settings.from_environment()
        {"up": up, "down": down, "status": status, "logs": logs}[command](settings, Processes(settings))
    except Failed as error:
        sys.exit(f"make {command}: {error}")
    except KeyboardInterrupt:
        if command == "up":
            sys.exit("\nmake up: it goes on starting in the background; make down ends it")


if __name__ == "__main__":
    main()
