"""The report on a fitted model, apart from any store: its structure, its page, and what of two documents it covers."""
