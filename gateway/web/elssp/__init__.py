"""Certificates for existing systems, in the form of GB/T 36906-2018 (电子证照 共享服务接口规范): JSON and SOAP.

A thin front of the services behind /v1/certificates: elements become their requests, their answers become statuses and
elements, and no rule is kept here. docs/gbt36906.md says how a system connects and what is our reading.
"""
