"""Large photographs restored in strips, from disk to disk, with memory that does not grow with their height.

The file is read twice. The first pass (`survey`) measures what the refiners need to know of the whole photograph; the
second (`restoration`) restores it, a row of tiles at a time. `use` says which photographs go this way. Pixels are those
of the other way, which holds the whole photograph.
"""
