"""Evidence: one row for every exchange, refused ones too, in the transaction of what it records."""

from gateway.evidence.record import Exchange, record

__all__ = ["Exchange", "record"]
