"""The simulated outside: one scripted sandbox for the whole run, as at its start for every test."""

from collections.abc import Iterator

import pytest

from sandbox.process import SandboxProcess


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_sandbox: SandboxProcess) -> SandboxProcess:
    """Knobs turned back, journals empty. `sandbox.ollama_url` is what OLLAMA_URL wants, `sandbox.cloud_url` what
    OLLAMA_CLOUD_URL wants (with `OLLAMA_CLOUD_API_KEY=sandbox`)."""
    _sandbox.reset()
    return _sandbox


@pytest.fixture(scope="session")
def real_sandbox() -> Iterator[SandboxProcess]:
    """A sandbox that answers from the real smollm2:135m. Slow to the tests' measure: one thread on this CPU."""
    with SandboxProcess(model="real") as sandbox:
        yield sandbox
