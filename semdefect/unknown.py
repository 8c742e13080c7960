"""The score of images that are unlike everything trained on: a small head that learns from images of other kinds.

Source: Hendrycks, Mazeika, Dietterich, "Deep Anomaly Detection with Outlier Exposure", 2019; here the network itself
stays as it is, so that the score costs no accuracy. The head is the mean of a few that differ in their first weights
(Lakshminarayanan, Pritzel, Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
2017): what one of them finds strange depends on chance.
"""

import warnings

import numpy as np
import torch
from joblib import delayed
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from tqdm import tqdm

from semdefect.chunks import MASK_SIZE
from semdefect.images import ImageSet, at_resolution
from semdefect.network import HIDDEN, SemNetwork
from semdefect.outliers import outlier
from semdefect.rounding import Precision, set_precision
from semdefect.seeds import UNKNOWN, image_seed
from semdefect.views import random_views
from semdefect.workers import in_processes

#: Views of each side, and of one image of an epoch at most.
EXAMPLES, VIEWS = 2400, 2
#: Heads that are averaged, strength of scikit-learn's weight decay, and passes over the examples.
HEADS, _DECAY, _PASSES = 4, 1.0, 40


def learn_unknown(
    network: SemNetwork, data: ImageSet, seed: int, examples: int = EXAMPLES, precision: Precision = "int8"
) -> None:
    """Give ``network`` its score of unknown images; nothing else of it changes.

    Args:
        network: a student that is done, with rounding.
        data: training images.
        seed: of the choice of images, their views and the heads.
        examples: views of each side; fewer where ``data`` holds less than half as many images.
        precision: of the network whose features the head learns from.
    """
    network.add_unknown()
    order = np.random.default_rng(seed).permutation(len(data))
    known = data.take(np.resize(order, min(examples, VIEWS * len(data)))).pixels
    strange = outliers(len(known), known.shape[-1], seed)
    set_precision(network, precision)
    sides = [_early_statistics(network, pixels, seed) for pixels in (known, strange)]
    set_precision(network, "fp32")
    scaler = StandardScaler().fit(np.concatenate(sides))
    examples_of_both, truth = scaler.transform(np.concatenate(sides)), np.repeat([0, 1], len(known))
    _take_over(network, scaler, [_learned(examples_of_both, truth, seed + number) for number in range(HEADS)])


def outliers(count: int, resolution: int, seed: int) -> Tensor:
    """``count`` images of `semdefect.outliers`, uint8 ``[N, 1, R, R]``."""
    work = in_processes(delayed(outlier)(image_seed(seed, UNKNOWN, index)) for index in range(count))
    drawn = np.stack(list(tqdm(work, total=count, desc="draw unknown images", disable=None, leave=False)))
    return at_resolution(torch.from_numpy(drawn)[:, None], resolution)


@torch.no_grad()
def _early_statistics(network: SemNetwork, pixels: Tensor, seed: int) -> NDArray[np.float64]:
    network.eval()
    generator, device = torch.Generator().manual_seed(seed), next(network.parameters()).device
    parts = []
    for batch in pixels.split(64):
        views, _ = random_views(batch, torch.zeros(len(batch), 1, MASK_SIZE, MASK_SIZE), generator)
        parts.append(network.early_statistics(views.to(device)).cpu())
    return torch.cat(parts).double().numpy()


def _learned(examples: NDArray[np.float64], truth: NDArray[np.int64], seed: int) -> MLPClassifier:
    head = MLPClassifier(
        (HIDDEN // HEADS,), alpha=_DECAY, max_iter=_PASSES, n_iter_no_change=_PASSES, random_state=seed
    )
    with warnings.catch_warnings(), threadpool_limits(1):  # sums of more threads have other last digits
        warnings.simplefilter("ignore", ConvergenceWarning)  # as many passes as were chosen
        warnings.filterwarnings("error", "Training interrupted")
        try:
            return head.fit(examples, truth)
        except UserWarning as told:
            if "interrupted" not in str(told):  # where the user made all warnings errors
                raise
            # scikit-learn keeps Ctrl-C to itself, and would give a head that is not done.
            raise KeyboardInterrupt from None


def _take_over(network: SemNetwork, scaler: StandardScaler, heads: list[MLPClassifier]) -> None:
    """Write the mean of ``heads`` into the network, the scaling of its inputs folded into its first layer."""
    assert network.unknown is not None
    first, last = (layer for layer in network.unknown if isinstance(layer, nn.Linear))
    weight = np.hstack([head.coefs_[0] for head in heads]) / scaler.scale_[:, None]
    values = {
        first.weight: weight.T,
        first.bias: np.hstack([head.intercepts_[0] for head in heads]) - scaler.mean_ @ weight,
        last.weight: np.vstack([head.coefs_[1] for head in heads]).T / len(heads),
        last.bias: np.mean([head.intercepts_[1] for head in heads], axis=0),
    }
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
