"""Money as whole nano-dollars: integers add up, floats do not.

Knows the unit and how it is read and shown; it does not know what is paid for.
"""

from decimal import ROUND_HALF_EVEN, Decimal

NANO = 10**9
"""Nano-dollars of a dollar."""


def nano(amount: Decimal | float | str) -> int:
    """Dollars as nano-dollars; what is finer is rounded half to even. A float is taken as it is written."""
    exact = Decimal(str(amount)) * NANO
    return int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))


def dollars(amount: int) -> Decimal:
    """Nano-dollars as an exact decimal of dollars."""
    return Decimal(amount) / NANO


def shown(amount: int) -> str:
    """Nano-dollars for people: cents, and more digits where cents would say nothing."""
    exact = dollars(abs(amount))
    digits = 2 if exact >= Decimal("0.1") or not amount else 6
    sign = "-" if amount < 0 else ""
    return f"{sign}${exact:,.{digits}f}"
