"""The province of Hainan (海南省): our side and its simulated authority."""
