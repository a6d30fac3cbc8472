"""The tests here need torch, which `./test --all` installs: without it they are left out."""

from importlib.util import find_spec

# Not "torch" itself: that is also the name of this folder.
collect_ignore_glob = [] if find_spec("torch.nn") else ["*"]
