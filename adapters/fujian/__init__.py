"""Fujian (福建省, 350000): see README.md for what differs, docs/ticket-exchange.md for the wire."""
