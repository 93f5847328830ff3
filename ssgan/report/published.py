"""List published test errors with few labels, each with its source; shown beside ours, never averaged with them."""

from typing import NamedTuple

__all__ = ["PUBLISHED", "SOURCES", "Published"]


class Published(NamedTuple):
    """One row of a published table; ``source`` is a key of ``SOURCES``."""

    method: str
    source: str
    #: Percent by number of labels, as printed: the mean, and the deviation over draws of labels where it was given.
    errors: dict[int, str]


SOURCES = {
    "Dai et al. 2017": "Good Semi-supervised Learning That Requires a Bad GAN",
    "Lecouat et al. 2018": "Semi-Supervised Learning with GANs: Revisiting Manifold Regularization",
    "Li et al. 2017": "Triple Generative Adversarial Nets",
    "Li et al. 2021": "Triple Generative Adversarial Networks",
    "Luo et al. 2018": "Smooth Neighbors on Teacher Graphs for Semi-supervised Learning",
    "Miyato et al. 2018": "Virtual Adversarial Training: A Regularization Method",
    "Mroueh et al. 2018": "Sobolev GAN",
    "Rasmus et al. 2015": "Semi-Supervised Learning with Ladder Networks",
    "Salimans et al. 2016": "Improved Techniques for Training GANs",
    "Sohn et al. 2020": "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
    "Tarvainen and Valpola 2017": "Mean Teachers Are Better Role Models",
    "Wei et al. 2018": "Improving the Improved Training of Wasserstein GANs",
}

PUBLISHED: dict[str, list[Published]] = {
    "mnist": [
        Published(
            "Improved GAN",
            "Salimans et al. 2016",
            {20: "16.77 ± 4.52", 50: "2.21 ± 1.36", 100: "0.93 ± 0.065", 200: "0.90 ± 0.042"},
        ),
        Published(
            "Improved GAN, ensemble of 10",
            "Salimans et al. 2016",
            {20: "11.34 ± 4.45", 50: "1.42 ± 0.96", 100: "0.86 ± 0.056", 200: "0.81 ± 0.043"},
        ),
        Published("Bad GAN", "Dai et al. 2017", {100: "0.795 ± 0.098"}),
        Published(
            "Triple-GAN (convolutional)",
            "Li et al. 2017",
            {20: "4.81 ± 4.95", 50: "1.56 ± 0.72", 100: "0.91 ± 0.58"},
        ),
        Published(
            "Pi + SNTG (convolutional)",
            "Luo et al. 2018",
            {20: "1.36"},
        ),
        Published(
            "Ladder network",
            "Rasmus et al. 2015",
            {50: "1.62", 100: "1.06 ± 0.37"},
        ),
        Published("VAT", "Miyato et al. 2018", {100: "1.36"}),
    ],
    "cifar10": [
        Published(
            "Improved GAN",
            "Salimans et al. 2016",
            {1000: "21.83 ± 2.01", 2000: "19.61 ± 2.09", 4000: "18.63 ± 2.32", 8000: "17.72 ± 1.82"},
        ),
        Published(
            "Improved GAN, ensemble of 10",
            "Salimans et al. 2016",
            {1000: "19.22 ± 0.54", 2000: "17.25 ± 0.66", 4000: "15.59 ± 0.47", 8000: "14.87 ± 0.89"},
        ),
        Published(
            "Fisher + Sobolev, K+1 (no augmentation)",
            "Mroueh et al. 2018",
            {1000: "20.14", 2000: "17.38", 4000: "15.77", 8000: "14.20"},
        ),
        Published("Bad GAN", "Dai et al. 2017", {4000: "14.41"}),
        Published(
            "Manifold regularisation",
            "Lecouat et al. 2018",
            {1000: "16.37", 4000: "14.34"},
        ),
        Published(
            "CT-GAN",
            "Wei et al. 2018",
            {4000: "9.98 ± 0.21"},
        ),
        Published("Triple-GAN-V2 (CNN-13, augmentation)", "Li et al. 2021", {1000: "15.00", 4000: "10.01"}),
        Published("Triple-GAN-V2 (ResNet-26)", "Li et al. 2021", {1000: "8.41", 4000: "6.54"}),
        Published(
            "Mean Teacher (CNN-13)",
            "Tarvainen and Valpola 2017",
            {1000: "21.55", 2000: "15.73", 4000: "12.31"},
        ),
        Published(
            "FixMatch (WRN-28-2)",
            "Sohn et al. 2020",
            {250: "5.07", 4000: "4.26 ± 0.05"},
        ),
        Published(
            "Supervised only (CNN-13, augmentation)",
            "Tarvainen and Valpola 2017",
            {1000: "46.43", 2000: "33.94", 4000: "20.66"},
        ),
    ],
    "svhn": [
        Published(
            "Improved GAN", "Salimans et al. 2016", {500: "18.44 ± 4.8", 1000: "8.11 ± 1.3", 2000: "6.16 ± 0.58"}
        ),
        Published("Bad GAN", "Dai et al. 2017", {1000: "4.25"}),
        Published("Mean Teacher (CNN-13)", "Tarvainen and Valpola 2017", {1000: "3.95"}),
    ],
}
