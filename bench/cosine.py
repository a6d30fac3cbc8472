"""A score for `wz tune`: the least cosine between embeddings of MiniLM and of a rounded one.

    wz tune FOLDER/minilm_fp32.safetensors --tolerance 0.0001 \\
        --eval 'python bench/cosine.py FOLDER/minilm_fp32.safetensors {model}'

needs: what bench/quality.py needs
"""

import sys
from pathlib import Path

from quality import Sentences

exact, rounded = (Path(path) for path in sys.argv[1:])
sentences = Sentences(200, 60)
print((sentences.embed(exact) * sentences.embed(rounded)).sum(1).min().item())
