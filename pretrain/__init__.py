"""The side pipeline that makes the SEM-pretrained weights in ``semdefect/weights``; not part of the default DAG."""

from semdefect.startup import settle

settle()
