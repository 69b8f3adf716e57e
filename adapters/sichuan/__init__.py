"""Sichuan (四川省, 510000): see README.md for what differs, docs/ticket-exchange.md for the wire."""
