"""Guizhou (贵州省, 520000): see README.md for what differs, docs/ticket-exchange.md for the wire."""
