"""The rows. Importing this package makes every table known to the metadata (migrations rely on it)."""

from portal.models.account import Account, Membership, User, UserSession
from portal.models.api_key import ApiKey
from portal.models.base import Base
from portal.models.budget import CloudDay
from portal.models.catalog import LanguageModel, ModelOffer, Pack, Plan, Price, Provider
from portal.models.event import Event
from portal.models.gateway import GatewayProcess, Usage
from portal.models.ledger import LedgerEntry, Wallet
from portal.models.setting import Setting

__all__ = [
    "Account", "ApiKey", "Base", "CloudDay", "Event", "GatewayProcess", "LanguageModel", "LedgerEntry", "Membership",
    "ModelOffer", "Pack", "Plan", "Price", "Provider", "Setting", "Usage", "User", "UserSession", "Wallet",
]  # fmt: skip
