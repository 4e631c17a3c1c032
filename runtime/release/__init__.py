"""A release: its format, its files in a home, and how one takes another's place."""
