"""This project's own events of OpenLineage: what they say of it, and sending them."""
