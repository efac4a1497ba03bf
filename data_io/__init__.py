"""Image files, and the cache of what was decoded from them."""
