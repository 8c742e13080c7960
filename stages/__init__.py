"""One small script a stage of the DAG in ``dvc.yaml``."""

from semdefect.startup import settle

settle()
