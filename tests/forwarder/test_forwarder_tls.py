"""TLS to the archive host: each mode with each kind of server; what is forgotten, and never heard."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from benno_milter2smtp import greeting
from certificates import Authority, Issued
from corpus import corpus
from forwarding import ENVELOPE, MESSAGE, Run, forward, names, put
from scripted import (
    CLOSE,
    EVERYTHING,
    STALL,
    Action,
    Behind,
    Deaf,
    Script,
    Secured,
    Server,
    Then,
    serving,
)

pytestmark = pytest.mark.slow

OFFERS = (*EVERYTHING, "STARTTLS")
ONE = ("--connections", "1")
MODES = ("off", "opportunistic", "required", "verify")

CERTIFICATES: dict[str, Callable[[Authority, Path], Issued]] = {
    "good": lambda authority, _: authority.issue("localhost"),
    "for an address": lambda authority, _: authority.issue("127.0.0.1"),
    "of another name": lambda authority, _: authority.issue("other.example"),
    "of an unknown authority": lambda _, directory: Authority(directory, "unknown").issue("localhost"),
    "expired": lambda authority, _: authority.issue(
        "localhost", end=datetime.datetime(2021, 1, 1, tzinfo=datetime.timezone.utc)
    ),
}

# What becomes of STARTTLS, where it does not begin TLS.
FAULTS: dict[str, Action] = {
    "not now": "454 4.7.0 TLS is not available",
    "never": "502 5.5.1 what?",
    "hangs up": CLOSE,
    "hangs up after the 220": Then("220 go on"),
    "other octets than TLS": Deaf("220 go on", b"500 5.5.2 what?\r\n"),
    "silent": STALL,
    "silent after the 220": Behind("220 go on", b"", STALL),
}


def by(mode: str, authority: Authority | None = None, *more: str) -> list[str]:
    believed = ["--ca-file", str(authority.cert)] if authority and mode == "verify" else []
    return ["--tls", mode, *believed, *ONE, *more]


def by_tls(server: Server) -> bool:
    """Whether the last connection, with the mail, was."""
    said = server.dialogues[-1]
    assert [line for line in said if line.startswith("C: MAIL")], said
    return "TLS" in said


def failed(run: Run, server: Server, spool: Path, *stored: str) -> None:
    """Nothing was sent or held, and an error of one line names the host."""
    assert (run.code, names(spool), server.mails) == (75, sorted(stored), []), run.log
    assert len(re.findall(rf"ERROR: \S+:{server.port} takes no mail: ", run.log)) == 1, run.log
    assert run.log.count("takes no mail") == 1
    assert "unexpected" not in run.log


# Each mode with each certificate


REFUSED = {
    "for an address": "its certificate is not for localhost): write a name that stands in it into",
    "of another name": "its certificate is not for localhost): write a name that stands in it into",
    "of an unknown authority": "unable to get local issuer certificate): if it is the right one, let",
    "expired": "certificate has expired): renew it there",
}


@pytest.mark.parametrize("kind", CERTIFICATES)
@pytest.mark.parametrize("mode", MODES)
def test_certificates(spool: Path, tmp_path: Path, authority: Authority, mode: str, kind: str) -> None:
    name = put(spool)
    secured = Secured(CERTIFICATES[kind](authority, tmp_path).server(), offers=EVERYTHING)
    with serving(offers=OFFERS, secured=secured) as server:
        run = forward(spool, f"localhost:{server.port}", options=by(mode, authority))
    if mode == "verify" and kind != "good":
        failed(run, server, spool, name)
        assert REFUSED[kind] in run.log
        assert not [line for line in server.dialogues[-1] if line.startswith("C: MAIL")]
        return
    assert (run.code, names(spool), len(server.mails)) == (0, [], 1), run.log
    assert by_tls(server) == (mode != "off")
    if mode == "off":
        assert "C: STARTTLS" not in server.dialogue()
        assert "connected" not in run.log
    else:
        verified = "yes" if mode == "verify" else "no"
        assert f"connected host=localhost:{server.port} tls=TLSv1.3 verified={verified}" in run.log
        assert f" tls={mode}" in run.log


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("mode", ["opportunistic", "required", "verify"])
def test_no_handshake(
    spool: Path,
    monkeypatch: pytest.MonkeyPatch,
    issued: Issued,
    authority: Authority,
    mode: str,
    fault: str,
) -> None:
    """Opportunistic: the same mail goes over a new connection, in plain text, with a warning."""
    monkeypatch.setattr(greeting, "HANDSHAKE_SECONDS", 0.5)
    stored = [put(spool) for _ in range(3)]
    seconds = "1" if "silent" in fault else "60"
    with serving(
        offers=OFFERS, secured=Secured(issued.server()), script={"STARTTLS": [FAULTS[fault]]}
    ) as server:
        run = forward(
            spool, f"127.0.0.1:{server.port}", options=by(mode, authority, "--timeout", seconds)
        )
    if mode != "opportunistic":
        failed(run, server, spool, *stored)
        return
    assert (run.code, names(spool), len(server.mails)) == (0, [], 3), run.log
    assert len(server.dialogues) == 2
    assert "C: STARTTLS" not in server.dialogues[1]
    assert run.log.count("WARNING: TLS with 127.0.0.1 failed: ") == 1
    assert "; mail goes there in plain text" in run.log
    assert f"connected host=127.0.0.1:{server.port} tls=no" in run.log


@pytest.mark.parametrize("mode", ["opportunistic", "required", "verify"])
@pytest.mark.parametrize("esmtp", [True, False])
def test_starttls_is_not_offered(spool: Path, mode: str, esmtp: bool) -> None:
    """Somebody may have taken it out of the reply."""
    name = put(spool)
    with serving(esmtp=esmtp) as server:
        run = forward(spool, server.port, options=by(mode))
    if mode == "opportunistic":
        assert (run.code, len(server.dialogues)) == (0, 1)
        assert " tls=no" in run.log
        assert "WARNING" not in run.log
    else:
        failed(run, server, spool, name)
        assert "it does not offer STARTTLS: turn TLS on there" in run.log


def test_a_plain_text_that_was_needed_once_is_used_for_the_rest_of_the_run(
    spool: Path, issued: Issued
) -> None:
    for _ in range(30):
        put(spool)
    script: Script = {"STARTTLS": ["454 no"], "LAST": [Then("250 ok")]}
    with serving(offers=OFFERS, secured=Secured(issued.server()), script=script) as server:
        run = forward(spool, server.port, options=("--tls", "opportunistic"))
    assert (run.code, len(server.mails)) == (0, 30), run.log
    assert server.count("STARTTLS") == 1
    assert run.log.count("WARNING") == 1


def test_several_connections(spool: Path, issued: Issued, authority: Authority) -> None:
    for _ in range(100):
        put(spool)
    secured = Secured(issued.server(), offers=EVERYTHING)
    with serving(offers=OFFERS, secured=secured) as server:
        options = ["--tls", "verify", "--ca-file", str(authority.cert)]
        run = forward(spool, server.port, options=options)
    assert (run.code, len(server.mails), len(server.dialogues)) == (0, 100, 4), run.log
    assert all("TLS" in said for said in server.dialogues)
    assert run.log.count("connected host=") == 1


def test_all_octets_survive(spool: Path, issued: Issued) -> None:
    """Also of large mails, when the server reads slowly."""
    messages = [case.message for case in corpus(40)] + [os.urandom(5_000_000)]
    for message in messages:
        put(spool, message)
    secured = Secured(issued.server(), offers=EVERYTHING)
    with serving(offers=OFFERS, secured=secured, buffers=4096) as server:
        run = forward(spool, server.port, options=by("required"))
    assert run.code == 0, run.log
    assert [mail.message for mail in server.mails] == messages


# What is forgotten


def test_what_was_offered_in_plain_text_is_forgotten(spool: Path, issued: Issued) -> None:
    put(spool)
    with serving(offers=OFFERS, secured=Secured(issued.server(), offers=("8BITMIME",))) as server:
        assert forward(spool, server.port, options=by("required")).code == 0
    said = server.dialogue()
    assert [line for line in said if line.startswith("C: EHLO")] == [said[1]] * 2
    assert "C: MAIL FROM:<sender@example.org>" in said
    assert "C: DATA" in said


def test_what_is_offered_under_tls_counts(spool: Path, issued: Issued) -> None:
    name = put(spool, b"bare LF\n")
    with serving(offers=("STARTTLS",), secured=Secured(issued.server(), offers=EVERYTHING)) as server:
        assert forward(spool, server.port, options=by("required")).code == 0
    (mail,) = server.mails
    assert mail.message == b"bare LF\n"
    assert b"XBENNO-ID=" + name.encode().replace(b"=", b"+3D") in mail.parameters


INJECTED = {
    "an EHLO reply": b"250-evil.test\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 XBENNO\r\n",
    "its beginning": b"250-evil.test\r\n250-CHUNKING\r\n",
    "a line without an end": b"250 evil",
    "a refusal": b"554 5.7.1 go away\r\n",
    "closing": b"421 4.3.2 closing\r\n",
    "many replies": b"250 ok\r\n" * 1000,
}


@pytest.mark.parametrize("octets", INJECTED.values(), ids=INJECTED)
def test_plain_text_behind_the_220_is_never_an_answer(
    spool: Path, issued: Issued, authority: Authority, octets: bytes
) -> None:
    """It comes in the same packet, before TLS begins: RFC 3207 6, and CVE-2011-0411 for clients."""
    put(spool)
    secured = Secured(issued.server(), offers=("8BITMIME",))
    script = {"STARTTLS": [Behind("220 go on", octets)]}
    with serving(offers=OFFERS, secured=secured, script=script) as server:
        run = forward(spool, server.port, options=by("verify", authority, "--timeout", "20"))
    assert (run.code, len(server.mails)) == (0, 1), run.log
    assert by_tls(server)
    assert server.mails[0].mail == b"MAIL FROM:<sender@example.org>"
    assert "C: DATA" in server.dialogue()


@pytest.mark.parametrize("octets", [b"220 go on\r\n", b"220 go on\r\n250 evil.test\r\n"])
def test_a_reply_before_starttls_was_said(spool: Path, issued: Issued, octets: bytes) -> None:
    """Whatever comes of it: no mail goes in plain text, and none by what was said there."""
    put(spool)
    ehlo = Behind("250-evil.test\r\n250-CHUNKING\r\n250 STARTTLS", octets)
    secured = Secured(issued.server(), offers=("8BITMIME",))
    with serving(secured=secured, script={"EHLO": [ehlo], "HELLO": ["250 good.test"]}) as server:
        run = forward(spool, server.port, options=by("required", None, "--timeout", "20"))
    assert run.code in {0, 75}
    for said in server.dialogues:
        assert "C: BDAT" not in "\n".join(said)
        if "C: MAIL" in "\n".join(said):
            assert said.index("TLS") < [line[:7] for line in said].index("C: MAIL")


@pytest.mark.parametrize("mode", ["opportunistic", "required"])
def test_a_server_that_speaks_first_under_tls(spool: Path, issued: Issued, mode: str) -> None:
    """It has no room left, say; its words come with the end of the handshake."""
    name = put(spool)
    secured = Secured(issued.server(), unasked=b"421 4.3.2 too many connections\r\n")
    with serving(offers=OFFERS, secured=secured) as server:
        run = forward(spool, server.port, options=by(mode))
    if mode == "required":
        failed(run, server, spool, name)
        assert "421 4.3.2 too many connections" in run.log
    else:
        assert (run.code, by_tls(server)) == (0, False), run.log


# Implicit TLS


def test_implicit(spool: Path, issued: Issued, authority: Authority) -> None:
    put(spool)
    secured = Secured(issued.server(), implicit=True, offers=EVERYTHING)
    with serving(offers=(), secured=secured) as server:
        options = by("verify", authority, "--tls-implicit")
        run = forward(spool, f"localhost:{server.port}", options=options)
    assert run.code == 0, run.log
    said = server.dialogue()
    assert said[:2] == ["TLS", "S: 220 scripted.test ESMTP"]
    assert "C: STARTTLS" not in said
    assert "C: BDAT 24" in said


@pytest.mark.parametrize("kind", [kind for kind in CERTIFICATES if kind != "good"])
def test_implicit_with_a_wrong_certificate(
    spool: Path, tmp_path: Path, authority: Authority, kind: str
) -> None:
    name = put(spool)
    secured = Secured(CERTIFICATES[kind](authority, tmp_path).server(), implicit=True)
    with serving(secured=secured) as server:
        options = by("verify", authority, "--tls-implicit")
        failed(forward(spool, f"localhost:{server.port}", options=options), server, spool, name)
        required = forward(
            spool, f"localhost:{server.port}", options=by("required", None, "--tls-implicit")
        )
    assert required.code == 0, required.log


def test_implicit_tls_where_plain_text_is_spoken(spool: Path) -> None:
    name = put(spool)
    with serving() as server:
        run = forward(spool, server.port, options=by("required", None, "--tls-implicit"))
        failed(run, server, spool, name)
    assert "that was no TLS: see BENNO_TLS_IMPLICIT" in run.log


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"GREETING": ["554 5.7.1 not you"]}, "554 5.7.1 not you (to the greeting): allow this client"),
        ({"GREETING": ["421 4.3.2 busy"]}, "421 4.3.2 busy (to the greeting)"),
        ({"GREETING": [CLOSE]}, "TLS failed"),
        ({"GREETING": [STALL]}, "it did not answer over TLS for 1 s"),
        ({"HELLO": ["451 4.3.0 later"]}, "451 4.3.0 later"),
        ({"HELLO": ["550 5.7.1 no"], "HELO": ["550 5.7.1 no"]}, "550 5.7.1 no (to EHLO)"),
    ],
)
@pytest.mark.parametrize("implicit", [True, False])
def test_refusals_under_tls(
    spool: Path, issued: Issued, script: dict[str, list[Action]], reason: str, implicit: bool
) -> None:
    if "GREETING" in script and not implicit:
        pytest.skip("that is plain text")
    name = put(spool)
    secured = Secured(issued.server(), implicit=implicit)
    more = ["--timeout", "1", *(["--tls-implicit"] if implicit else [])]
    with serving(offers=OFFERS, secured=secured, script=script) as server:
        run = forward(spool, server.port, options=by("required", None, *more))
    failed(run, server, spool, name)
    assert reason in run.log


# Names and addresses


@pytest.mark.parametrize(
    ("host", "certificate", "good"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", False),
        ("[::1]", "::1", True),
        ("[::1]", "127.0.0.1", False),
        ("localhost", "localhost", True),
        ("LOCALHOST", "localhost", True),
        ("localhost.", "localhost", True),
        ("localhost", "127.0.0.1", False),
        ("archive.example", "archive.example", True),
        ("mail.archive.example", "*.archive.example", True),
        ("a.mail.archive.example", "*.archive.example", False),
        ("m\u00fcller.example", "xn--mller-kva.example", True),
    ],
)
def test_the_name_is_the_host_as_it_was_written(
    spool: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: Authority,
    host: str,
    certificate: str,
    good: bool,
) -> None:
    put(spool)
    shown = authority.issue(certificate)
    with serving(offers=OFFERS, secured=Secured(shown.server())) as server:

        async def here(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", here)
        run = forward(spool, f"{host}:{server.port}", options=by("verify", authority))
    assert run.code == (0 if good else 75), run.log
    assert ("certificate is not for" in run.log) == (not good)


def test_each_of_several_hosts_has_its_name(
    spool: Path, tmp_path: Path, authority: Authority, issued: Issued
) -> None:
    put(spool)
    other = authority.issue("other.example")
    with (
        serving(offers=OFFERS, secured=Secured(other.server())) as wrong,
        serving(offers=OFFERS, secured=Secured(issued.server())) as right,
    ):
        run = forward(spool, wrong.port, right.port, options=by("verify", authority))
    assert (run.code, len(right.mails)) == (0, 1), run.log
    assert f"127.0.0.1:{wrong.port} takes no mail: TLS failed (its certificate is not for" in run.log


def test_the_certificate_of_the_host_itself_may_be_believed(
    spool: Path, authority: Authority, issued: Issued
) -> None:
    put(spool)
    with serving(offers=OFFERS, secured=Secured(issued.server())) as server:
        options = ["--tls", "verify", "--ca-file", str(issued.cert)]
        assert forward(spool, server.port, options=options).code == 0


@pytest.mark.parametrize("good", [True, False])
def test_the_authorities_of_the_system(
    spool: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, issued: Issued, good: bool
) -> None:
    name = put(spool)
    if good:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    with serving(offers=OFFERS, secured=Secured(issued.server())) as server:
        run = forward(spool, server.port, options=by("verify"))
    if good:
        assert run.code == 0, run.log
    else:
        failed(run, server, spool, name)
        assert "let BENNO_CAFILE name a file" in run.log


# Versions, and our own certificate


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_versions(spool: Path, issued: Issued, version: str) -> None:
    name = put(spool)
    context = issued.server(minimum=ssl.TLSVersion.TLSv1)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with serving(offers=OFFERS, secured=Secured(context)) as server:
        run = forward(spool, server.port, options=by("required"))
    if version in {"TLSv1", "TLSv1_1"}:
        failed(run, server, spool, name)
        assert "it knows no TLS 1.2 or later: allow that there" in run.log
    else:
        assert run.code == 0, run.log
        assert f" tls={version.replace('_', '.')}" in run.log


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("shown", ["believed", "another", "none"])
def test_our_certificate(
    spool: Path,
    tmp_path: Path,
    authority: Authority,
    issued: Issued,
    version: ssl.TLSVersion,
    shown: str,
) -> None:
    """Under TLS 1.3 the server refuses after the handshake."""
    name = put(spool)
    context = issued.server()
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.cert)
    ours = {"believed": authority, "another": Authority(tmp_path, "another")}
    options = by("required")
    if shown != "none":
        mine = ours[shown].issue("mail.example")
        options += ["--cert-file", str(mine.cert), "--key-file", str(mine.key)]
    with serving(offers=OFFERS, secured=Secured(context)) as server:
        run = forward(spool, server.port, options=options)
    if shown == "believed":
        assert run.code == 0, run.log
        return
    failed(run, server, spool, name)
    if shown == "another" or version == ssl.TLSVersion.TLSv1_3:
        assert "it does not take our certificate: see BENNO_CERT_FILE" in run.log
    else:
        assert "TLS failed (sslv3 alert handshake failure)" in run.log


def test_certificate_and_key_in_one_file(spool: Path, tmp_path: Path, issued: Issued) -> None:
    put(spool)
    both = tmp_path / "both.pem"
    both.write_bytes(issued.key.read_bytes() + issued.cert.read_bytes())
    with serving(offers=OFFERS, secured=Secured(issued.server())) as server:
        run = forward(spool, server.port, options=by("opportunistic", None, "--cert-file", str(both)))
    assert run.code == 0, run.log


# The rest of the session


def test_a_refusal_of_a_mail_is_that_under_tls_too(spool: Path, issued: Issued) -> None:
    first = put(spool)
    put(spool)
    secured = Secured(issued.server(), offers=EVERYTHING)
    with serving(offers=OFFERS, secured=secured, script={"RCPT": ["550 5.1.1 no", "250 ok"]}) as server:
        run = forward(spool, server.port, options=by("required"))
    assert (run.code, names(spool), len(server.mails)) == (65, [f"{first}.err"], 1), run.log


def test_a_connection_lost_under_tls(spool: Path, issued: Issued) -> None:
    name = put(spool)
    secured = Secured(issued.server(), offers=EVERYTHING)
    with serving(offers=OFFERS, secured=secured, script={"LAST": [CLOSE]}) as server:
        run = forward(spool, server.port, options=by("required"))
    assert (run.code, names(spool), run.summary) == (75, [name], "sent=0 kept=1 held=0"), run.log
    assert "connection closed by the server" in run.log


def test_a_host_that_demands_tls(spool: Path) -> None:
    """Without BENNO_TLS: nothing is held, and the error says what to set."""
    name = put(spool)
    with serving(script={"MAIL": ["530 5.7.0 STARTTLS comes first"]}) as server:
        run = forward(spool, server.port)
    assert (run.code, names(spool)) == (75, [name])
    assert "it demands authentication or TLS: see BENNO_AUTH_FILE and BENNO_TLS" in run.log


def test_the_envelope_goes_over_tls_only(spool: Path, issued: Issued) -> None:
    """What an eavesdropper sees of a connection before TLS."""
    put(spool, MESSAGE, ENVELOPE)
    with serving(offers=OFFERS, secured=Secured(issued.server())) as server:
        assert forward(spool, server.port, options=by("required")).code == 0
    said = server.dialogue()
    before = [line.split()[1] for line in said[: said.index("TLS")] if line.startswith("C: ")]
    assert before == ["EHLO", "STARTTLS"]
