"""Video clips, read and written through PyAV (the extra `video`); nothing here is imported before it is used."""
