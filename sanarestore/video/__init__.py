"""Video clips, read and written by PyAV (the extra `video`), which is imported only when it is used."""
