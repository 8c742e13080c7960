"""Seeds that never meet: each use of the renderer draws from a stream of its own."""

#: The data set that is split; further images for the teacher's training; the same for the student's; benchmarks'
#: validation images; the endless stream of pretraining; further test images; images of other kinds, to learn from;
#: further images to calibrate on.
DATA_SET, TEACHER, STUDENT, BENCHMARK, PRETRAIN, TEST, UNKNOWN, CALIBRATION = range(8)
_STREAMS, _PER_STREAM = 16, 10**7


def image_seed(base_seed: int, stream: int, index: int) -> int:
    """The seed of image ``index`` (0 to 10⁷ - 1) of a ``stream``; different for all three together."""
    return (base_seed * _STREAMS + stream) * _PER_STREAM + index
