"""Macau SAR (澳門特別行政區): our side and its simulated authority."""
