"""The models a simulated Ollama server has pulled, and how Ollama finds one by the name a client wrote.

Capabilities decide which requests are refused with 400 before anything runs, exactly as Ollama does it.
`routes.py` serves the list, `answering.py` looks names up here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

MODIFIED_AT = "2026-10-04T08:15:30.123456789+03:00"
MODIFIED_EPOCH = 1791090930
_NAME = re.compile(r"^[A-Za-z0-9][\w.\-]*(:[\w.\-]+)?$")


@dataclass(frozen=True)
class Model:
    """One pulled model."""

    name: str  # always with a tag
    capabilities: tuple[str, ...] = ("completion",)
    context: int = 131_072
    family: str = "llama"
    parameters: str = "3.2B"
    quantization: str = "Q4_K_M"
    size: int = 2_019_393_189
    embedding_length: int = 3072
    namespace: str = "library"
    modelfile_num_ctx: int | None = None  # a `PARAMETER num_ctx` of the Modelfile

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def full_name(self) -> str:
        return f"registry.ollama.ai/{self.namespace}/{self.name}"

    @property
    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameters,
            "quantization_level": self.quantization,
        }


class InvalidModelName(ValueError):
    """A name that Ollama would not even look up."""


def _model(name: str, caps: str, context: int, family: str, parameters: str, size: int, width: int) -> Model:
    return Model(name, tuple(caps.split()), context, family, parameters, "Q4_K_M", size, width)


SMALL = "smollm2:135m"

STOCK = (
    Model(SMALL, ("completion",), 8192, "llama", "134.52M", "Q4_1", 98_362_432, 576),
    _model("llama3.2:3b", "completion tools", 131_072, "llama", "3.2B", 2_019_393_189, 3072),
    _model("qwen2.5-coder:14b", "completion tools insert", 32_768, "qwen2", "14.8B", 8_988_124_069, 5120),
    _model("mistral-small3.2:24b", "completion tools vision", 131_072, "mistral3", "24.0B", 15_177_384_862, 5120),
    _model("qwen3-30b-40k:latest", "completion tools thinking", 40_960, "qwen3moe", "30.5B", 18_556_699_314, 2048),
    _model(
        "Qwen3-VL-32B:latest", "completion tools vision thinking", 262_144, "qwen3vl", "33.4B", 20_900_000_000, 5120
    ),
    _model("gpt-oss:20b", "completion tools thinking", 131_072, "gptoss", "20.9B", 13_793_441_244, 2880),
    _model("glm-4.7-flash:latest", "completion", 131_072, "glm4moelite", "29.9B", 19_000_000_000, 2048),
    _model("bge-m3:latest", "embedding", 8192, "bert", "566.70M", 1_157_672_605, 1024),
    _model("nomic-embed-text:latest", "embedding", 2048, "nomic-bert", "137M", 274_302_450, 768),
)


_KINDS: dict[str, type] = {"context": int, "size": int, "embedding_length": int, "modelfile_num_ctx": int}
DESCRIPTION = tuple(field.name for field in fields(Model) if field.name != "name")
"""What a test may say about a model."""


class Catalogue:
    """What is pulled right now; tests add, remove and describe. `known` also has what was pulled before."""

    def __init__(self, stock: tuple[Model, ...] = STOCK) -> None:
        self._stock = stock
        self.models: dict[str, Model] = {}
        self.known: dict[str, Model] = {}
        self.restore()

    def restore(self) -> None:
        self.models = {model.name.lower(): model for model in self._stock}
        self.known = dict(self.models)

    def add(self, spec: dict[str, Any]) -> Model:
        """Pull a model described by `Model`'s own field names; only `name` is required."""
        spec = dict(spec)
        name = spec.pop("name", None)
        if not isinstance(name, str):
            raise ValueError(f"a model needs a name and may have {sorted(DESCRIPTION)}")
        return self._keep(Model(self.tagged(name), **_described(spec)))

    def describe(self, name: str, spec: dict[str, Any]) -> Model:
        """Other facts about a model that is pulled."""
        return self._keep(replace(self.models[self.tagged(name).lower()], **_described(spec)))

    def _keep(self, model: Model) -> Model:
        self.models[model.name.lower()] = self.known[model.name.lower()] = model
        return model

    def pull_exactly(self, names: Iterable[str]) -> None:
        """These are pulled and no others. Who was never known here is a plain text model."""
        wanted = [self.tagged(str(name)) for name in names]
        self.models = {name.lower(): self.known.get(name.lower()) or Model(name) for name in wanted}
        self.known |= self.models

    def remove(self, name: str) -> None:
        self.models.pop(self.tagged(name).lower(), None)

    def tagged(self, name: str) -> str:
        """The name as the list has it."""
        return name if ":" in name.rsplit("/", 1)[-1] else name + ":latest"

    def find(self, name: str) -> Model | None:
        """The pulled model a client means: case does not matter, `:latest` and the registry may be left out."""
        bare = name.strip()
        for prefix in ("registry.ollama.ai/", "library/"):
            bare = bare.removeprefix(prefix)
        if not _NAME.match(bare):
            raise InvalidModelName("invalid model name")
        return self.models.get(self.tagged(bare).lower())


def _described(spec: dict[str, Any]) -> dict[str, Any]:
    """The same facts, checked. Raises ValueError with a sentence."""
    if unknown := set(spec) - set(DESCRIPTION):
        raise ValueError(f"of a model one may say {sorted(DESCRIPTION)}, not {sorted(unknown)}")
    said = dict(spec)
    for name, value in said.items():
        if name == "capabilities":
            if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
                raise ValueError("capabilities must be a list of words")
            said[name] = tuple(value)
        elif name == "modelfile_num_ctx" and value is None:
            continue
        elif not isinstance(value, _KINDS.get(name, str)) or isinstance(value, bool):
            raise ValueError(f"{name} must be {'a count' if name in _KINDS else 'a text'}")
    return said
