"""What follows MAIL, RCPT and BDAT and is refused: no certain address, or a wrong parameter."""

from __future__ import annotations

import re

import pytest

from benno_smtp.command import CommandError, parse_bdat, parse_mail, parse_rcpt

# A command, and the codes of the reply.
REFUSED: dict[bytes, str] = {
    b"MAIL ": "501 5.5.2",
    b"MAIL FROM": "501 5.5.2",
    b"MAIL <a@b>": "501 5.5.2",
    b"MAIL TO:<a@b>": "501 5.5.2",
    b"MAIL FROMM:<a@b>": "501 5.5.2",
    b"MAIL F\xc5\xb2OM:<a@b>": "501 5.5.2",
    b"RCPT FROM:<a@b>": "501 5.5.2",
    # no address, or none that is certain
    b"MAIL FROM:": "501 5.1.7",
    b"MAIL FROM: SIZE=100": "501 5.1.7",
    b"MAIL FROM:envid=a@b": "501 5.1.7",
    b"MAIL FROM: SMTPUTF8": "501 5.1.7",
    b"MAIL FROM:<": "501 5.1.7",
    b"MAIL FROM:<a@b": "501 5.1.7",
    b"MAIL FROM:<a@b SIZE=100": "501 5.1.7",
    b"MAIL FROM:<a@b SIZE=100>": "501 5.1.7",
    b"MAIL FROM:<a@b ENVID=x>": "501 5.1.7",
    b"MAIL FROM:<a@b\tENVID=x>": "501 5.1.7",
    b"MAIL FROM:<a@b ENVID=<x>": "501 5.1.7",
    b"MAIL FROM:<a@b AUTH=<>": "501 5.1.7",
    b"MAIL FROM:<a@b SIZE=100 x>": "501 5.1.7",
    b"MAIL FROM:<a@b>SIZE=100": "501 5.1.7",
    b"MAIL FROM:<a@b>,<c@d>": "501 5.1.7",
    b"MAIL FROM:a@b>": "501 5.1.7",
    b"MAIL FROM:a<b@c>": "501 5.1.7",
    b'MAIL FROM:"a"@b': "501 5.1.7",
    b'MAIL FROM:"a ENVID="@b': "501 5.1.7",
    b'MAIL FROM:<a"b@c> ENVID=x"@d>': "501 5.1.7",
    b'MAIL FROM:<"a@b> ENVID="x>': "501 5.1.7",
    b"MAIL FROM:<a\\> ENVID=x>": "501 5.1.7",
    b"MAIL FROM:<a>b@c>,<d@e>": "501 5.1.7",
    b'MAIL FROM:<a."b> c"@d>': "501 5.1.7",
    b"MAIL FROM:<a@b>\x0bSIZE=1": "501 5.1.7",
    b"MAIL FROM:<a@b>\xa0": "501 5.1.7",
    b"RCPT TO:": "501 5.1.3",
    b"RCPT TO:<>": "501 5.1.3",
    b"RCPT TO:<> NOTIFY=NEVER": "501 5.1.3",
    b"RCPT TO:<a@b": "501 5.1.3",
    b"RCPT TO:<a@b ORCPT=x>": "501 5.1.3",
    b"RCPT TO: ORCPT=x": "501 5.1.3",
    b'RCPT TO:<a"b@c> ORCPT=rfc822;"x>': "501 5.1.3",
    # no mail file can hold it
    b"MAIL FROM:<a\r\nb@c>": "553 5.1.3",
    b"MAIL FROM:<a\rb@c>": "553 5.1.3",
    b"MAIL FROM:<a\nb@c> SIZE=1": "553 5.1.3",
    b"MAIL FROM:<a\0b@c>": "553 5.1.3",
    b'MAIL FROM:<"a\\\r\nb"@c>': "553 5.1.3",
    b"MAIL FROM:a\rb": "553 5.1.3",
    b"RCPT TO:<a@b\r>": "553 5.1.3",
    b"RCPT TO:<a@b\0>": "553 5.1.3",
    b'RCPT TO:<"\n"@b>': "553 5.1.3",
    b"RCPT TO:<a\r\nX-REAL-RCPTTO: <b@c>>": "553 5.1.3",
    b"RCPT TO:<" + b"a" * 600_000 + b">": "553 5.1.3",
    # parameters
    b"MAIL FROM:<a> HOLDFOR=10": "555 5.5.4",
    b"MAIL FROM:<a> x": "555 5.5.4",
    b"MAIL FROM:<a> NOTIFY=NEVER": "555 5.5.4",
    b"MAIL FROM:a b": "555 5.5.4",
    b"RCPT TO:<a> SIZE=1": "555 5.5.4",
    b"RCPT TO:<a> XBENNO-GW=g": "555 5.5.4",
    b"MAIL FROM:<a> <b>": "501 5.5.4",
    b"MAIL FROM:<a> =1": "501 5.5.4",
    b"MAIL FROM:<a> -a=1": "501 5.5.4",
    b"MAIL FROM:<a> S\xc4\xb0ZE=1": "501 5.5.4",
    b"MAIL FROM:<a> SIZE =1": "501 5.5.4",
    b"MAIL FROM:<a> SIZE": "501 5.5.4",
    b"MAIL FROM:<a> SIZE=": "501 5.5.4",
    b"MAIL FROM:<a> SIZE=-1": "501 5.5.4",
    b"MAIL FROM:<a> SIZE=1k": "501 5.5.4",
    b"MAIL FROM:<a> SIZE=1\n": "501 5.5.4",
    b"MAIL FROM:<a> SIZE=1_0": "501 5.5.4",
    "MAIL FROM:<a> SIZE=\u0661".encode(): "501 5.5.4",
    b"MAIL FROM:<a> SIZE=" + b"1" * 5000: "501 5.5.4",
    b"MAIL FROM:<a> SIZE=1 size=1": "501 5.5.4",
    b"MAIL FROM:<a> SMTPUTF8 SMTPUTF8": "501 5.5.4",
    b"MAIL FROM:<a> ENVID=1 BODY=7BIT ENVID=1": "501 5.5.4",
    b"RCPT TO:<a> ORCPT=a ORCPT=b": "501 5.5.4",
    b"MAIL FROM:<a> BODY": "501 5.5.4",
    b"MAIL FROM:<a> BODY=": "501 5.5.4",
    b"MAIL FROM:<a> BODY=9BIT": "501 5.5.4",
    b"MAIL FROM:<a> SMTPUTF8=": "501 5.5.4",
    b"MAIL FROM:<a> SMTPUTF8=yes": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-GW": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-GW=": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-GW=a=b": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-GW=a+4": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-GW=a+20b": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-GW=a+0D+0AX:": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-GW=+C3+BC": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-GW=a\r\nX:": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-ID": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-ID=": "501 5.5.4",
    b"MAIL FROM:<a> XBENNO-ID=a=b": "501 5.5.4",
    b"MAIL FROM:<a> ENVID=e XBENNO-ID=+": "501 5.5.4",
    b"BDAT ": "501 5.5.4",
    b"BDAT x": "501 5.5.4",
    b"BDAT LAST": "501 5.5.4",
    b"BDAT -1": "501 5.5.4",
    b"BDAT 1LAST": "501 5.5.4",
    b"BDAT 1 FIRST": "501 5.5.4",
    b"BDAT 1 LAST LAST": "501 5.5.4",
    b"BDAT 1_0": "501 5.5.4",
    b"BDAT 1\n": "501 5.5.4",
    b"BDAT " + b"1" * 5000: "501 5.5.4",
}
PARSERS = {b"MAIL": parse_mail, b"RCPT": parse_rcpt, b"BDAT": parse_bdat}
REPLY = re.compile(r"5[0-9][0-9] 5\.[0-9]\.[0-9] [\x20-\x7e]{1,100}")


@pytest.mark.parametrize(("line", "codes"), REFUSED.items(), ids=lambda value: repr(value)[:60])
def test_refused(line: bytes, codes: str) -> None:
    verb, _, argument = line.partition(b" ")
    with pytest.raises(CommandError) as refused:
        print(PARSERS[verb](argument))
    assert refused.value.reply.startswith(codes + " "), refused.value.reply
    assert REPLY.fullmatch(refused.value.reply)


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(CommandError) as refused:
        parse_mail(b"FROM:<a> holdfor=" + b"x" * 1000)
    assert refused.value.reply == "555 5.5.4 Unknown parameter HOLDFOR"
