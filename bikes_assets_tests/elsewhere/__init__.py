"""The lake at a URL, Dagster in a database: the servers for it, and the tests that ask for them."""
