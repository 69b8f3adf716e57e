"""Yunnan (云南省, 530000): see README.md for what differs, docs/ticket-exchange.md for the wire."""
