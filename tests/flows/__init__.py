"""Tests of whole flows, through the real HTTP surface."""
