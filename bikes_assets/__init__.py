"""Hourly bike-sharing demand as software-defined assets, each with an exact record of what it was made from."""
