"""The rows. Importing this package makes every table known to the metadata (migrations rely on it)."""

from portal.models.account import Account, Membership, User, UserSession
from portal.models.api_key import ApiKey
from portal.models.ban import Ban
from portal.models.base import Base
from portal.models.budget import CloudDay
from portal.models.catalog import LanguageModel, ModelOffer, Pack, Plan, Price, Provider
from portal.models.code import Allowance, OneTimeCode
from portal.models.event import Event, EventStep
from portal.models.gateway import GatewayProcess, Usage
from portal.models.job import ScheduledJob
from portal.models.ledger import LedgerEntry, Wallet
from portal.models.notification import Delivery, MessageTemplate, Notification, OptOut
from portal.models.payment import Paper, PaperSeries, Payment, PaymentEvent, Refund, SavedCard
from portal.models.setting import Setting
from portal.models.subscription import Subscription

__all__ = [
    "Account", "Allowance", "ApiKey", "Ban", "Base", "CloudDay", "Delivery", "Event", "EventStep", "GatewayProcess",
    "LanguageModel", "LedgerEntry", "Membership", "MessageTemplate", "ModelOffer", "Notification", "OneTimeCode",
    "OptOut", "Pack", "Paper", "PaperSeries", "Payment", "PaymentEvent", "Plan", "Price", "Provider", "Refund",
    "SavedCard", "ScheduledJob", "Setting", "Subscription", "Usage", "User", "UserSession", "Wallet",
]  # fmt: skip
