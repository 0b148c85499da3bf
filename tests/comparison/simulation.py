"""Exams whose true numbers are known: seeds, documents and what is between them vary as much as one says."""

from dataclasses import dataclass

import numpy as np

from ntp.comparison.statistics import Sample


@dataclass(frozen=True)
class World:
    """Standard deviations of what two arms are made of, in bits per byte.

    Attributes:
        seeds: of an arm's own seeds.
        shared: of what a seed does to both arms.
        documents: of how an arm gets on with a document; heavy-tailed.
        both: of how hard a document is for both arms; skewed.
        inside: of one seed on one document; the noise of estimates is of this kind.
        count: documents.
    """

    seeds: float = 0.02
    shared: float = 0.01
    documents: float = 0.05
    both: float = 1.0
    inside: float = 0.05
    count: int = 64

    def pair(
        self, rng: np.random.Generator, seeds: int, better: float = 0.0, *, same_seeds: bool = True
    ) -> tuple[Sample, Sample]:
        """Two arms; in the long run the second has so many bits per byte less."""
        hard_D = self.both * rng.gamma(2.0, 1.0, self.count)
        bytes_D = rng.integers(1, 5, self.count) * 100.0
        shared_S = rng.normal(0, self.shared, seeds)
        samples = []
        for arm, names in enumerate((range(seeds), range(seeds) if same_seeds else range(100, 100 + seeds))):
            of_arm_D = self.documents * rng.standard_t(5, self.count)
            of_seed_S = rng.normal(0, self.seeds, seeds) + (shared_S if same_seeds or not arm else 0.0)
            bits_SD = 3.0 + hard_D + of_arm_D - arm * better + of_seed_S[:, None]
            bits_SD = bits_SD + rng.normal(0, self.inside, (seeds, self.count))
            weights_SD = np.broadcast_to(bytes_D, bits_SD.shape)
            samples.append(Sample(bits_SD * bytes_D, weights_SD, None, np.arange(self.count), tuple(names)))
        return samples[0], samples[1]
