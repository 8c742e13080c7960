"""Which processes `accelerate launch --cpu` stands for."""

import pytest
from accelerate.commands.launch import launch_command_parser

from semdefect.device import _places
from semdefect.errors import UserError


def places(*words: str) -> str:
    return " ".join(_places(launch_command_parser().parse_args([*words, "--cpu", "-m", "stages.distill"])))


def test_on_one_machine_processes_find_each_other():
    assert places("--num_processes", "2") == "--standalone --nproc_per_node 2"


def test_on_several_machines_each_starts_its_share():
    leader = ["--main_process_ip", "10.0.0.1", "--main_process_port", "29500"]
    assert (
        places("--num_processes", "6", "--num_machines", "3", "--machine_rank", "2", *leader)
        == "--nnodes 3 --node_rank 2 --master_addr 10.0.0.1 --master_port 29500 --nproc_per_node 2"
    )


@pytest.mark.parametrize("count", ["5", "6"])
def test_machines_that_could_not_find_each_other_are_refused(count):
    with pytest.raises(UserError, match="a multiple of 3, and --machine_rank, --main_process_ip"):
        places("--num_processes", count, "--num_machines", "3")
