"""Users and settings of a running Redis are compared with its files, in Redis' own wording."""

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.redis_live import settings, users

CATEGORIES = {
    "admin": {"acl|load", "config|get", "config|set"},
    "dangerous": {"acl|load", "config|get", "config|set", "flushall", "info", "keys"},
    "read": {"get", "keys", "client", "client|list", "client|kill"},
    "write": {"set", "flushall"},
}
FILE = "user worker on #abc ~rq:* &rq:* +@all -@admin -@dangerous +info +client|list"
# As reported by Redis 7.
RUNNING = "user worker on sanitize-payload #abc ~rq:* resetchannels &rq:* +@all -@admin -flushall -keys +client|list"


def agree(one: str, other: str) -> bool:
    return users([one], CATEGORIES) == users([other], CATEGORIES)


def test_the_same_rights_in_other_words_agree() -> None:
    assert agree(RUNNING, FILE)
    assert agree("user a off nopass ~* &* +@all", "user a off nopass allkeys allchannels allcommands")
    assert agree("user a on +@all", "user a on +get +@all")


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("on ", "off "),
        ("#abc", "#abc #def"),
        ("~rq:*", "~rq:* ~other:*"),
        ("~rq:* ", ""),
        ("&rq:*", "&*"),
        ("-keys", ""),
        ("+client|list", "+client|list -client|kill"),
        ("+@all -@admin", "-@all"),
    ],
)
def test_every_change_at_run_time_is_seen(former: str, now: str) -> None:
    assert not agree(RUNNING.replace(former, now), FILE)


def test_settings_are_compared_as_redis_tells_them() -> None:
    text = 'maxmemory 256mb\nappendonly yes\ndatabases 4\nsupervised auto\nlogfile ""\nsave 900 1\n# loglevel notice\n'
    assert dict(settings(text)) == {"maxmemory": "268435456", "appendonly": "yes", "databases": "4"}
