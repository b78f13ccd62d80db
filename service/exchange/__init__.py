"""Runs between stores: out of one into files (Parquet, JSON lines, GraphML), and from files into another.

`leaving.export_runs` and `coming.import_runs` are the two ways. Modules that need pyarrow or networkx are imported only where
they are used.
"""
