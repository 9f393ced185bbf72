"""The common base: rule texts, dtypes, headers, paths, plain text and YAML; no torch, and no checkpoints."""
