"""The models a simulated Ollama server has pulled, and how Ollama finds one by the name a client wrote.

Capabilities decide which requests are refused with 400 before anything runs, exactly as Ollama does it.
`routes.py` serves the list, `answering.py` looks names up here.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
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


@dataclass
class Catalogue:
    """What is pulled right now; tests add and remove."""

    models: dict[str, Model] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.restore()

    def restore(self) -> None:
        self.models = {model.name.lower(): model for model in STOCK}

    def add(self, spec: dict[str, Any]) -> Model:
        """Pull a model described by `Model`'s own field names; only `name` is required."""
        unknown = set(spec) - set(Model.__dataclass_fields__)
        if unknown or not isinstance(spec.get("name"), str):
            raise ValueError(
                f"a model needs a name and may have {sorted(Model.__dataclass_fields__)}, not {sorted(unknown)}"
            )
        fields = dict(spec, name=self._tagged(spec["name"]))
        if "capabilities" in fields:
            fields["capabilities"] = tuple(fields["capabilities"])
        model = Model(**fields)
        self.models[model.name.lower()] = model
        return model

    def remove(self, name: str) -> None:
        self.models.pop(self._tagged(name).lower(), None)

    @staticmethod
    def _tagged(name: str) -> str:
        return name if ":" in name.rsplit("/", 1)[-1] else name + ":latest"

    def find(self, name: str) -> Model | None:
        """The pulled model a client means: case does not matter, `:latest` and the registry may be left out."""
        bare = name.strip()
        for prefix in ("registry.ollama.ai/", "library/"):
            bare = bare.removeprefix(prefix)
        if not _NAME.match(bare):
            raise InvalidModelName("invalid model name")
        return self.models.get(self._tagged(bare).lower())
