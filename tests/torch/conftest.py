"""The tests here need torch, which `./test --all` installs: without it they are left out."""

import resource
from importlib.util import find_spec

# Not "torch" itself: that is also the name of this folder.
collect_ignore_glob = [] if find_spec("torch.nn") else ["*"]

# More than for other tests: torch, transformers and jax take 1.1 GB as soon as they are imported.
resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, resource.getrlimit(resource.RLIMIT_DATA)[1]))
