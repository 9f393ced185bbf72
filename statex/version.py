"""The version of statex."""

VERSION = "0.1.0"
