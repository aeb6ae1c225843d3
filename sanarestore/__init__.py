"""sanarestore restores photographs in batches.

The Python API is `sanarestore.engine.restorer.Restorer`. Nothing heavy is imported here, so that
``sanarestore --help`` answers at once.
"""

__version__ = "0.1.0"
