"""One small script a stage of the DAG in ``dvc.yaml``."""
