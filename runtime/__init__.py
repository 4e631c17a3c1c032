"""Everything that answers in a store: release format, local cache, scoring and recommending."""
