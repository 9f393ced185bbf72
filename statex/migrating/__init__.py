"""Chains of migrations: rule files in order, and modules that carry them out when they load an old state."""
