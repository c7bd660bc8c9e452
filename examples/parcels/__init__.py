"""Parcels a day: the smallest project with a table, a feature and a model."""
