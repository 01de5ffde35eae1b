"""Conventions as text: a table of their rules, and one of what they do to inputs that tell."""

from __future__ import annotations


def conventions_text(rows):
    return "x"


def conventions_dict(rows):
    return {}
