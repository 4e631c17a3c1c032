"""Taking what head office publishes."""
