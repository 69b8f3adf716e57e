"""A fault drill: gateways under load that are killed, at authorities that misbehave, and ledgers that are compared.

`make drill` runs it. Nothing here is part of the product, and nothing of the product's inside decides what is counted:
the authorities' own books are held against what the agency was promised and what the gateway's store says.
"""
