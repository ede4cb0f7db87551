"""Is the key of the probe one that the rules allow?"""

import pytest

from components.verification.tenant_redis_url_probe import key_within


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ("", "k:1"),
        ("~* &* +@all", "k:1"),
        ("allkeys +@all", "k:1"),
        ("~org:* +@all", "org:k:1"),
        ("+get ~*:cache:* ~b:*", "k:1:cache:"),
        ("~org:* ~* +@all", "k:1"),
        ("~only-this +get", "k:1"),
    ],
)
def test_a_key_fits_the_first_pattern(rules: str, key: str) -> None:
    assert key_within(rules, "k:1") == key
