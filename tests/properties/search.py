"""How tests look for examples: a suite that fails by chance is soon not believed any more.

By themselves they take the same examples every time, so that a failure is that of the change at
hand. With OMS_TEST_EXAMPLES they look at random, for as many as it says (`make properties`).
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_ASKED = os.environ.get("OMS_TEST_EXAMPLES", "")
AT_RANDOM = bool(_ASKED)
FOUND = "found in example"
"""What a test notes down when a planted bug was found."""
_PROFILE = "random" if _ASKED else "the same every time"


def begin() -> None:
    """For every test of this run, before any is imported; only machines that are slow differ."""
    settings.register_profile(
        _PROFILE,
        derandomize=not _ASKED,
        print_blob=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile(_PROFILE)


def search(*, quick: int) -> settings:
    """For tests that drive the engine; `quick` examples unless more are asked for."""
    return settings(
        max_examples=int(_ASKED or quick),
        # Explaining takes minutes here and says little.
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            # Every example undoes what it did.
            HealthCheck.function_scoped_fixture,
        ],
    )
