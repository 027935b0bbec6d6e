"""Sequential training of GANs against GAN-classifiers (Pathak & Dufour, CVPR 2023).

Start reading at `knowledge_gaps.study` (what an experiment is), then `knowledge_gaps.stages`
(one module per DVC stage) and `knowledge_gaps.training` (the two training loops).
"""

from __future__ import annotations

__version__ = "0.1.0"
