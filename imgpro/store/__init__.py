"""Disk and SQLite live here and nowhere else. Must not know HTTP, pictures' insides, or why anything is stored."""
