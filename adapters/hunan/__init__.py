"""Hunan (湖南省, 430000): see README.md for what differs, docs/ticket-exchange.md for the wire."""
