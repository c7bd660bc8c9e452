"""The audit log: what was materialized and decided, as entries that each name the one before, with a signed head."""
