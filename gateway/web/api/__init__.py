"""The API of agencies under /v1: thin handlers over the services."""
