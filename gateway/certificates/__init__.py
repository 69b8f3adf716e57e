"""Certificates: found, fetched and verified live where they were issued. Nothing is kept but who issues what."""
