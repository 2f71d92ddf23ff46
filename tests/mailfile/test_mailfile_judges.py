"""Other readers at work: none sees a trusted header but those of the block, JavaMail included.

Each hostile message is shown twice. Encoded, it fools nobody; behind the bare block it fools exactly
those who are named with it in tests/hostile.py, so a judge that cannot see would be noticed.
"""

from __future__ import annotations

from functools import cache

import pytest

from benno_common.envelope import Envelope
from hostile import BLOCK, HOSTILE, RECIPIENTS, SEEN, SENDER, random_mails
from judges import JUDGES, Seen, block_of, missing_java
from mailfile_streams import encode

pytestmark = pytest.mark.slow

needs_java = pytest.mark.skipif(missing_java() is not None, reason=str(missing_java()))
EACH_JUDGE = pytest.mark.parametrize(
    "judge",
    [pytest.param(name, marks=needs_java if name.startswith("javamail") else ()) for name in JUDGES],
)
ENVELOPE = Envelope(SENDER, RECIPIENTS)


@cache
def verdicts(judge: str) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """What a judge sees of each hostile message: encoded, and behind the bare block."""
    messages = [hostile.message for hostile in HOSTILE.values()]
    encoded = [encode(ENVELOPE, [message]) for message in messages]
    seen = JUDGES[judge](encoded + [BLOCK + message for message in messages])
    count = len(messages)
    return dict(zip(HOSTILE, seen[:count], strict=True)), dict(zip(HOSTILE, seen[count:], strict=True))


@EACH_JUDGE
def test_encoded_messages_fool_nobody(judge: str) -> None:
    encoded, _ = verdicts(judge)
    assert {name: seen for name, seen in encoded.items() if seen != SEEN} == {}


@EACH_JUDGE
def test_bare_messages_fool_the_known(judge: str) -> None:
    _, bare = verdicts(judge)
    fooled = {name for name, seen in bare.items() if seen != SEEN}
    assert fooled == {name for name, hostile in HOSTILE.items() if judge in hostile.fools}


def check_random_mails(judge: str, mails: list[tuple[Envelope, bytes]]) -> None:
    seen = JUDGES[judge]([encode(envelope, [message]) for envelope, message in mails])
    for (envelope, message), headers in zip(mails, seen, strict=True):
        assert headers == block_of(envelope), message
    bare = JUDGES[judge]([BLOCK + message for _, message in mails])
    assert sum(headers != SEEN for headers in bare) > len(mails) // 10, (
        "hardly any of these is a threat"
    )


@pytest.mark.parametrize("judge", ["lenient", "python-compat32", "python-default"])
def test_random_messages(judge: str) -> None:
    check_random_mails(judge, random_mails(1, 200))


@pytest.mark.system
@EACH_JUDGE
def test_many_random_messages(judge: str) -> None:
    check_random_mails(judge, random_mails(2, 5_000 if judge.startswith("python") else 20_000))
