"""Reports as single HTML files that need no network and run no script."""
