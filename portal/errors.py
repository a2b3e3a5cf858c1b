"""Every error the portal tells anyone, in one tree.

An error is a code, a status and a sentence; the door decides the dialect it is told in (a page, OpenAI's JSON).
The docs render the same list (`API_ERRORS`), so a documented code is one the API sends. Knows no request and no app.
"""

from typing import Any, ClassVar

from flask_babel import LazyString, lazy_gettext as _l


class PortalError(Exception):
    """Something went wrong that the caller should be told of.

    code, status, type: as in OpenAI's error object; `sentence` is translated when it is rendered.
    param: the field at fault; `extra`: further members of the JSON error; retry_after: seconds, at least 1.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    sentence: ClassVar[LazyString | str] = _l(
        "Something went wrong on our side. Nothing was charged. Please try again."
    )

    def __init__(
        self,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        extra: dict[str, Any] | None = None,
        **values: Any,
    ) -> None:
        self.param = param
        self.retry_after = retry_after if retry_after is None else max(1, retry_after)
        self.extra = extra or {}
        self.told: list[tuple[str, str]] = []
        """Headers that the refused request is owed all the same, such as where it stands in its limit."""
        self.values = values
        super().__init__(self.code)

    @property
    def message(self) -> str:
        """The sentence in the language of the moment, with its values filled in."""
        text = str(self.sentence)
        return text % self.values if self.values else text

    def body(self) -> dict[str, Any]:
        """OpenAI's error object: the four members are always there."""
        return {
            "error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code, **self.extra}
        }

    def headers(self) -> list[tuple[str, str]]:
        return [*self.told, *([("Retry-After", str(self.retry_after))] if self.retry_after else [])]


class _BadRequest(PortalError):
    status, type = 400, "invalid_request_error"


class InvalidRequest(_BadRequest):
    code = "invalid_request"
    sentence = _l("The request is not valid: %(reason)s")


class ContextLengthExceeded(_BadRequest):
    code = "context_length_exceeded"
    sentence = _l(
        "This model's maximum context length is %(limit)s tokens, and the messages need more. Please shorten them."
    )


class UnsupportedCapability(_BadRequest):
    code = "unsupported_capability"
    sentence = _l("The model %(model)s does not support %(capability)s.")


class _NotSignedIn(PortalError):
    status, type = 401, "invalid_request_error"

    def headers(self) -> list[tuple[str, str]]:
        return [("WWW-Authenticate", "Bearer"), *super().headers()]


class MissingApiKey(_NotSignedIn):
    code = "missing_api_key"
    sentence = _l("No API key was sent. Send it in the header: Authorization: Bearer YOUR_KEY")


class InvalidApiKey(_NotSignedIn):
    code = "invalid_api_key"
    sentence = _l("This API key is not known. Please check it, or create a new one in the portal.")


class KeyExpired(_NotSignedIn):
    code = "key_expired"
    sentence = _l("This API key has expired. Please create a new one in the portal.")


class KeyRevoked(_NotSignedIn):
    code = "key_revoked"
    sentence = _l("This API key was deleted. Please create a new one in the portal.")


class WrongToken(_NotSignedIn):
    code = "invalid_token"
    sentence = _l("The token or the signature of this call is not right. Nothing was changed.")


class InsufficientCredits(PortalError):
    code, status, type = "insufficient_credits", 402, "insufficient_quota"
    sentence = _l(
        "Not enough credit: this request needs up to %(required)s credits and %(balance)s are left. Top up to go on."
    )


class _Forbidden(PortalError):
    status, type = 403, "permission_error"


class ModelNotInPlan(_Forbidden):
    code = "model_not_in_plan"
    sentence = _l("The model %(model)s is not part of your plan. The plan %(plan)s has it.")


class CloudNotAllowed(_Forbidden):
    code = "cloud_not_allowed"
    sentence = _l("The model %(model)s runs in the cloud, and this account is set to stay on our own servers.")


class ScopeMissing(_Forbidden):
    code = "scope_missing"
    sentence = _l("This API key lacks the permission “%(scope)s”.")


class AccountSuspended(_Forbidden):
    code = "account_suspended"
    sentence = _l("This account is suspended. Please contact support.")


class AccessDenied(_Forbidden):
    code = "access_denied"
    sentence = _l("You may not open this page.")


class ModelNotFound(PortalError):
    code, status, type = "model_not_found", 404, "invalid_request_error"
    sentence = _l("The model %(model)s does not exist here.")


class SimilarModelFound(ModelNotFound):
    sentence = _l("The model %(model)s does not exist here. Did you mean %(nearest)s?")


class NotFound(PortalError):
    code, status, type = "not_found", 404, "invalid_request_error"
    sentence = _l("There is nothing here. Please check the address.")


class MethodNotAllowed(PortalError):
    code, status, type = "method_not_allowed", 405, "invalid_request_error"
    sentence = _l("This address does not take this method.")


class RequestTooLarge(PortalError):
    code, status, type = "request_too_large", 413, "invalid_request_error"
    sentence = _l("The request is larger than %(limit)s bytes.")


class FormExpired(_BadRequest):
    code = "form_expired"
    sentence = _l("This form was open for too long or came from another page. Nothing was changed. Please try again.")


class RateLimitExceeded(PortalError):
    code, status, type = "rate_limit_exceeded", 429, "rate_limit_error"
    sentence = _l("Too many requests: your plan allows %(limit)s a minute. Please try again in %(seconds)s seconds.")


class TooManyAttempts(PortalError):
    code, status, type = "too_many_attempts", 429, "rate_limit_error"
    sentence = _l("Too many attempts. Please wait a few minutes and try again.")


class CreditsOnHold(PortalError):
    code, status, type = "credits_on_hold", 429, "rate_limit_error"
    sentence = _l(
        "Your remaining credit is set aside for requests that are still running. Please try again in a moment."
    )


class UpstreamError(PortalError):
    code, status = "upstream_error", 502
    sentence = _l("The model failed to answer. You were charged for nothing that did not reach you. Please try again.")


class UpstreamTimeout(PortalError):
    code, status = "upstream_timeout", 504
    sentence = _l("The model took too long. You were charged for nothing that did not reach you. Please try again.")


class NoProvider(PortalError):
    code, status = "no_provider", 503
    sentence = _l("No server can answer with this model at the moment. Please try again shortly.")


class QueueFull(PortalError):
    code, status = "queue_full", 503
    sentence = _l("All servers with this model are busy and the line is full. Please try again in %(seconds)s seconds.")


class WaitedTooLong(QueueFull):
    sentence = _l(
        "All servers with this model were busy for %(waited)s seconds. Nothing was charged. "
        "Please try again in %(seconds)s seconds."
    )


class CloudBudgetExhausted(PortalError):
    code, status = "cloud_budget_exhausted", 503
    sentence = _l(
        "The cloud models have reached today's limit and are back at midnight, Kuwait time. The other models go on."
    )

    def headers(self) -> list[tuple[str, str]]:
        # Node's SDK would wait until midnight inside the customer's program; OpenAI's SDKs obey this.
        return [*super().headers(), ("x-should-retry", "false")]


class LimiterUnavailable(PortalError):
    code, status = "limiter_unavailable", 503
    sentence = _l("Requests can't be counted at the moment, so none are taken. Please try again shortly.")


class ServiceUnavailable(PortalError):
    code, status = "service_unavailable", 503
    sentence = _l("The portal can't take requests at the moment. Nothing was charged. Please try again shortly.")


class HookClosed(ServiceUnavailable):
    sentence = _l("The portal has no token for this hook, so it takes no calls. The operator can set one.")


class PaymentsClosed(ServiceUnavailable):
    code = "payments_closed"
    sentence = _l("Payments are not open here yet. Please write to the operator; nothing was charged.")


class PaymentServiceAway(PortalError):
    code, status = "payment_service_away", 502
    sentence = _l("The payment service does not answer. Nothing was charged. Please try again in a moment.")


class PaymentRefused(PortalError):
    code, status = "payment_refused", 502
    sentence = _l("The payment service did not accept this order. Nothing was charged. Please choose another method.")


class NotForSale(_BadRequest):
    code = "not_for_sale"
    sentence = _l("This is not for sale any more, or never was. Please choose from the list.")


class NoSuchMethod(_BadRequest):
    code = "no_such_method"
    sentence = _l("This way to pay is not offered. Please choose from the list.")


class HigherPlanRuns(PortalError):
    code, status, type = "higher_plan_runs", 409, "invalid_request_error"
    sentence = _l("Your present plan is the higher one. You can choose this one once it has ended.")


class TooManyPayments(TooManyAttempts):
    code = "too_many_payments"
    sentence = _l("You have begun many payments today without paying. Please finish one of them, or try tomorrow.")


class AnswerInterrupted(ServiceUnavailable):
    sentence = _l(
        "The portal is restarting and could not finish this answer. "
        "You were charged for nothing that did not reach you. Please try again."
    )


class InternalError(PortalError):
    """Our own fault; the log has the story under the request id."""


API_ERRORS: tuple[type[PortalError], ...] = (
    InvalidRequest, ContextLengthExceeded, UnsupportedCapability,
    MissingApiKey, InvalidApiKey, KeyExpired, KeyRevoked,
    InsufficientCredits,
    ModelNotInPlan, CloudNotAllowed, ScopeMissing, AccountSuspended,
    ModelNotFound, NotFound, MethodNotAllowed, RequestTooLarge,
    RateLimitExceeded, CreditsOnHold,
    UpstreamError, UpstreamTimeout,
    NoProvider, QueueFull, CloudBudgetExhausted, LimiterUnavailable, ServiceUnavailable, InternalError,
)  # fmt: skip
"""What the API answers, in the order of the docs page."""
