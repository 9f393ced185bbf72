"""Chains of migrations: rule files in their order, and modules that carry them out when they load an old state."""
