"""Jiangxi (江西省, 360000): see README.md for what differs, docs/ticket-exchange.md for the wire."""
