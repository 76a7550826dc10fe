"""One process a role, as one service; READY once all of them have their partitions."""

import asyncio
import multiprocessing
import multiprocessing.connection
import signal
import sys


def _child(run, role, ready):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C goes to all of them; the parent ends them
    asyncio.run(run(role, ready.set))


def run_all(run, roles):
    """Runs `async run(role, ready)` in a process for each role until a signal, or until one of them ends."""
    context = multiprocessing.get_context("spawn")
    children = []
    for role in roles:
        ready = context.Event()
        child = context.Process(target=_child, args=(run, role, ready), name=role)
        child.start()
        children.append((child, ready))

    def stop(*_):
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        for child, ready in children:
            while not ready.wait(0.2):
                if not child.is_alive():
                    sys.exit(f"{child.name} ended while starting")
        print("READY", flush=True)
        multiprocessing.connection.wait([child.sentinel for child, _ in children])
        sys.exit(f"{[c.name for c, _ in children if not c.is_alive()]} ended")
    finally:
        for child, _ in children:
            child.terminate()
        for child, _ in children:
            child.join(10)
            if child.is_alive():
                child.kill()
