"""What a server of models tells its operator: version, models, what each can do. For probing, never for a request.

Speaks Ollama's native API, and OpenAI's list of models for servers that have no other. Plain data out; a server's own
words of an error are not passed on, for those of a cloud hold the operator's account name. What an answer means is
`services/probing`'s business.
"""

import contextlib
import json
import time
from types import TracebackType
from typing import Any, NamedTuple

import requests
import urllib3

from portal.providers.trust import SystemTrust

CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0
ALL_SECONDS = 20.0
"""For everything asked of one server: one that says a byte a second must not keep the clock's worker."""
LARGEST_ANSWER = 8_000_000
KEY_REFUSED = (401, 403)


class ProviderError(Exception):
    """The server gave no usable answer. `str()` is why, in plain words; status is HTTP's, 0 where there was none.

    permanent: asking again changes nothing before somebody changes the server, its address or its key.
    """

    def __init__(self, reason: str, *, status: int = 0, permanent: bool = False) -> None:
        super().__init__(reason)
        self.status, self.permanent = status, permanent


class Listed(NamedTuple):
    """A model that is there. elsewhere: it is a stub, and what answers is Ollama's cloud."""

    name: str
    elsewhere: bool = False
    capabilities: tuple[str, ...] | None = None
    context_tokens: int | None = None


class Shown(NamedTuple):
    """What a model can do (None: not told), the context its Modelfile sets, and the longest it was trained for."""

    capabilities: tuple[str, ...] | None
    set_context: int | None
    trained_context: int | None


class OllamaServer:
    """One server, asked over one connection. Every method raises ProviderError."""

    def __init__(self, url: str, key: str = "", *, seconds: float = ALL_SECONDS) -> None:
        """url: where its `/api` and `/v1` begin. key: sent as Bearer, if there is one. seconds: for all questions."""
        self._url, self._until = url.rstrip("/"), time.monotonic() + seconds
        self._session = requests.Session()
        # Else a .netrc would send another password than the key, and a proxy of the shell's would be asked that the
        # gateway itself knows nothing of.
        self._session.trust_env = False
        self._session.mount("https://", SystemTrust())
        self._session.headers["User-Agent"] = "llm-portal"
        if key:
            self._session.headers["Authorization"] = f"Bearer {key}"

    def __enter__(self) -> "OllamaServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def version(self) -> str:
        """Such as `0.33.0`."""
        return _text(self._ask("GET", "/api/version").get("version"))

    def tags(self) -> list[Listed]:
        """The models it has."""
        return [
            Listed(
                _text(model.get("name")) or _text(model.get("model")),
                elsewhere=bool(model.get("remote_host") or model.get("remote_model")),
                capabilities=_words(model.get("capabilities")),
                context_tokens=_count(_inner(model, "details").get("context_length")),
            )
            for model in _objects(self._ask("GET", "/api/tags"), "models")
        ]

    def loaded(self) -> dict[str, int]:
        """The context of each model that is in memory now, in tokens: what it really works with."""
        found = {}
        for model in _objects(self._ask("GET", "/api/ps"), "models"):
            context = _count(model.get("context_length"))
            if context is not None:  # releases before 0.11 don't tell
                found[_text(model.get("name")) or _text(model.get("model"))] = context
        return found

    def show(self, name: str) -> Shown:
        """What it knows of one model."""
        told = self._ask("POST", "/api/show", {"model": name})
        info = _inner(told, "model_info")
        architecture = _text(info.get("general.architecture"))
        return Shown(
            _words(told.get("capabilities")),
            _parameter(_text(told.get("parameters")), "num_ctx"),
            _count(info.get(f"{architecture}.context_length")),
        )

    def openai_models(self) -> list[Listed]:
        """The list of a server that speaks OpenAI's dialect alone."""
        return [
            Listed(_text(model.get("id")), context_tokens=_count(model.get("max_model_len")))  # as vLLM tells it
            for model in _objects(self._ask("GET", "/v1/models"), "data")
        ]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        left = self._until - time.monotonic()
        if left <= 0:
            raise ProviderError("it takes too long to answer")
        try:
            with self._session.request(
                method,
                self._url + path,
                json=body,
                timeout=(min(CONNECT_SECONDS, left), min(READ_SECONDS, left)),
                allow_redirects=False,  # the key is for this address
                stream=True,
            ) as answer:
                if answer.status_code != 200:
                    raise _refusal(answer.status_code, path)
                told = json.loads(self._read(answer))
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError) as error:
            raise ProviderError("it takes too long to answer") from error
        except requests.exceptions.SSLError as error:
            raise ProviderError("its certificate is not trusted", permanent=True) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise ProviderError("it can't be reached") from error
        except (ValueError, RecursionError) as error:
            raise ProviderError(f"what it answers to {path} is no JSON", status=200, permanent=True) from error
        if not isinstance(told, dict):
            raise ProviderError(f"what it answers to {path} is not what such a server answers", status=200)
        return told

    def _read(self, answer: requests.Response) -> bytes:
        read = b""
        # Not iter_content: it waits for a piece to be full, and a server that drips would never let go of us.
        while piece := answer.raw.read1(65536, decode_content=True):
            read += piece
            if len(read) > LARGEST_ANSWER:
                raise ProviderError("its answer has no end", status=200)
            if time.monotonic() > self._until:
                raise ProviderError("it takes too long to answer")
        return read


def _refusal(status: int, path: str) -> ProviderError:
    if status in KEY_REFUSED:
        whom = "our key" if status == 401 else "us"
        return ProviderError(f"it refuses {whom} (status {status})", status=status, permanent=True)
    if 300 <= status < 400:
        return ProviderError(f"it sends us to another address (status {status})", status=status, permanent=True)
    if status in (404, 405, 501):
        return ProviderError(f"it knows no {path}: is the address right?", status=status, permanent=True)
    return ProviderError(f"it answers with status {status}", status=status)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    """A number of tokens. No model has two billion, and no row holds more."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None


def _words(value: Any) -> tuple[str, ...] | None:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else None


def _inner(value: dict[str, Any], name: str) -> dict[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _objects(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """null is an empty list: so Go writes a list that was never made."""
    inner = value.get(name)
    if inner is not None and not isinstance(inner, list):
        raise ProviderError("its list of models is none", status=200)
    return [item for item in inner or [] if isinstance(item, dict)]


def _parameter(parameters: str, name: str) -> int | None:
    """A number in a Modelfile's parameters: one a line, name and value parted by blanks."""
    for line in parameters.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name:
            with contextlib.suppress(ValueError):
                return _count(int(words[1]))
    return None
