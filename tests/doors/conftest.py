"""What the tests of doors share."""

from tests.doors.shop import any_shop, shop

__all__ = ["any_shop", "shop"]
