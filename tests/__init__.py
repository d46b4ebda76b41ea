"""Tests: one file per room, and the whole river."""
