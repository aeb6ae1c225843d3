"""`sanarestore bench`: measure quality and speed on published sets or on your own images."""
