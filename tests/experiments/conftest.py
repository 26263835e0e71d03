"""What the tests of the gallery share."""

import jax
import matplotlib.image
import pytest


@pytest.fixture(scope="module")
def as_a_user_runs_it():
    """JAX as it is by default, without the strictness of the other tests."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="session")
def are_pictures():
    """Whether all of these files of a folder are pictures of some size that are not blank."""

    def are_pictures(folder, names):
        pictures = [matplotlib.image.imread(folder / name) for name in names]
        return len(pictures) > 0 and all(min(p.shape[:2]) > 200 and p[..., :3].std() > 0.02 for p in pictures)

    return are_pictures
