"""What follows MAIL, RCPT and BDAT and is accepted: addresses octet for octet, and parameters."""

from __future__ import annotations

import pytest

from benno_smtp.command import (
    BdatCommand,
    MailCommand,
    RcptCommand,
    parse_bdat,
    parse_mail,
    parse_rcpt,
)

# What stands between the brackets and is the address, whatever stands behind them.
ADDRESSES: dict[str, bytes] = {
    "common": b"sender@example.org",
    "no domain": b"postmaster",
    "upper case": b"Sender@EXAMPLE.org",
    "literal": b"a@[192.0.2.1]",
    "IPv6 literal": b"a@[IPv6:2001:db8::1]",
    "literal with a bracket": b"a@[x:>]",
    "quoted": b'"a"@example.org',
    "quoted blanks": b'" a  b "@example.org',
    "quoted bracket": b'"a>b"@example.org',
    "quoted brackets and a blank": b'"a> <b"@example.org',
    "quoted parameter": b'"a> SIZE=1"@example.org',
    "quoted at sign": b'"a@b"@example.org',
    "quoted pair": b'"a\\"> b"@example.org',
    "quoted backslash": b'"a\\\\"@example.org',
    "quoted nothing": b'""@example.org',
    "quoted without domain": b'"a b"',
    "source route": b"@a,@b:user@c",
    "source route of one": b"@a:user@c",
    "source route with a literal": b"@[IPv6:::1],@b:user@c",
    "source route, quoted": b'@a,@b:"x> y"@c',
    "percent hack, bang path": b"c!d!a%b@example.org",
    "BATV": b"prvs=123abc=user@example.org",
    "VERP": b"list+user=example.org@example.net",
    "UTF-8": "jürgen@exämple.org".encode(),
    "Latin-1": b"j\xfcrgen@ex\xe4mple.org",
    "C1 controls, no-break space": b"\x80\x85\xa0@example.org",
    "Unicode blanks": "\u2003a\u3000@\u2028b\ufeff".encode(),
    "long local part": b"a" * 300 + b"@example.org",
    "very long": b"a" * 60_000 + b"@" + b"b" * 60_000,
    "encoded word": b"=?utf-8?q?a=0D=0AX-REAL-RCPTTO:_v=40t.x?=@d.e",
    "header": b"X-REAL-RCPTTO:a@b",
    "comment": b"a(comment)@example.org",
    "trailing dot": b"a@example.org.",
    # from here on the grammar has no name for them
    "several at signs": b"a@b@c",
    "at sign last": b"a@",
    "at sign first": b"@b",
    "dots": b".a..b.@..c",
    "blank inside": b"john doe@example.org",
    "blanks around": b" a@b ",
    "tab inside": b"a\tb@c",
    "comment with blanks": b"a (my comment) @example.org",
    "controls": b"\x01a\x0b\x0c\x1b@\x7f",
    "lone quote": b'o"brien@example.org',
    "quote never closed": b'"a@example.org',
    "quoted word after a dot": b'a."b>c".d@example.org',
    "text after a quoted string": b'"a"b@example.org',
    "backslash": b"DOMAIN\\user@example.org",
    "backslash and bracket": b"a\\>b@c",
    "brackets in brackets": b"<a@b>",
    "opening bracket": b"a<b@c",
    "closing bracket": b"a>b@c",
    "closing bracket last": b"a@b>",
    "equals sign behind a blank": b"a =b@c",
    "name and address": b"John Doe <a@b>",
}

PARAMETERS = (
    *(
        b"",
        b" ",
        b" SIZE=1000",
        b"\tsize=1000\t",
        b"  BODY=8BITMIME   SMTPUTF8",
        b" RET=HDRS ENVID=QQ==314",
    ),
    *(b" AUTH=<>", b" AUTH=e+3Dmc2@example.com", b" XBENNO-GW=gw1 XBENNO-ID=a.S+3D1.eml"),
)
RCPT_PARAMETERS = (
    *(b"", b"  ", b" NOTIFY=NEVER", b" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a@b"),
    *(
        b" ORCPT=a=b",
        b" orcpt=rfc822;a+20b=c= notify=",
        b" ORCPT",
        b'\tORCPT=rfc822;"a"@b',
        b" ORCPT=utf-8;\xc3\xbc",
    ),
)


@pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)
def test_address(address: bytes) -> None:
    for parameters in PARAMETERS:
        assert parse_mail(b"FROM:<" + address + b">" + parameters).sender == address
    for parameters in RCPT_PARAMETERS:
        assert parse_rcpt(b"TO:<" + address + b">" + parameters) == RcptCommand(address)


# Forms that some clients send, and the address.
SLOPPY: dict[str, tuple[bytes, bytes]] = {
    "null sender": (b"FROM:<>", b""),
    "null sender and parameters": (b"FROM:<> SIZE=1000", b""),
    "lower case": (b"from:<a@b>", b"a@b"),
    "blank after the colon": (b"FROM: <a@b>", b"a@b"),
    "blanks everywhere": (b"  From \t: \t<a@b>  SIZE=1000\t BODY=7BIT \t", b"a@b"),
    "backslash last": (b"FROM:<a@b\\> SIZE=1000", b"a@b\\"),
    "brackets in parameters": (b"FROM:<john doe@b> AUTH=<> ENVID=<x@y>", b"john doe@b"),
    "no brackets": (b"FROM:a@b", b"a@b"),
    "no brackets, blank after the colon": (b"FROM: a@b SIZE=1000", b"a@b"),
    "no brackets, tab": (b"FROM:a@b\tSIZE=1000", b"a@b"),
    "no brackets, UTF-8": ("FROM:ü@b SMTPUTF8".encode(), "ü@b".encode()),
    "no brackets, equals sign": (b"FROM:prvs=1=a@b", b"prvs=1=a@b"),
    "no brackets, no domain": (b"FROM:size", b"size"),
}


@pytest.mark.parametrize(("argument", "sender"), SLOPPY.values(), ids=SLOPPY)
def test_sloppy_mail(argument: bytes, sender: bytes) -> None:
    assert parse_mail(argument).sender == sender


# MAIL and what was understood.
MAIL: dict[bytes, MailCommand] = {
    b"FROM:<a>": MailCommand(b"a"),
    b"FROM:<a> SIZE=0": MailCommand(b"a", size=0),
    b"FROM:<a> SIZE=99999999999999999999": MailCommand(b"a", size=10**20 - 1),
    b"FROM:<a> BODY=7BIT": MailCommand(b"a", body=b"7BIT"),
    b"FROM:<a> body=8bitMime": MailCommand(b"a", body=b"8BITMIME"),
    b"FROM:<a> BODY=BINARYMIME": MailCommand(b"a", body=b"BINARYMIME"),
    b"FROM:<a> SmtpUtf8": MailCommand(b"a", smtputf8=True),
    b"FROM:<a> RET=FULL": MailCommand(b"a"),
    b"FROM:<a> RET=whatever": MailCommand(b"a"),
    b"FROM:<a> AUTH=<>": MailCommand(b"a"),
    b"FROM:<a> AUTH=x=y=": MailCommand(b"a"),
    b"FROM:<a> ENVID=4bXyZ1": MailCommand(b"a", ident=b"4bXyZ1"),
    b"FROM:<a> ENVID=a+2Bb": MailCommand(b"a", ident=b"a+b"),
    b"FROM:<a> ENVID=QQ==": MailCommand(b"a", ident=b"QQ=="),
    b"FROM:<a> ENVID=a+b": MailCommand(b"a", ident=b"a+b"),
    b"FROM:<a> ENVID=<x@y>": MailCommand(b"a", ident=b"<x@y>"),
    b"FROM:<a> ENVID=\xfc": MailCommand(b"a", ident=b"\xfc"),
    b"FROM:<a> ENVID=": MailCommand(b"a"),
    b"FROM:<a> ENVID": MailCommand(b"a"),
    b"FROM:<a> XBENNO-ID=a.S+3D1.eml": MailCommand(b"a", ident=b"a.S=1.eml"),
    b"FROM:<a> ENVID=e XBENNO-ID=i": MailCommand(b"a", ident=b"i"),
    b"FROM:<a> xbenno-id=i envid=e": MailCommand(b"a", ident=b"i"),
    b"FROM:<a> XBENNO-GW=mailgw1": MailCommand(b"a", gateway=b"mailgw1"),
    b"FROM:<a> xbenno-gw=a+2Bb+3D+41": MailCommand(b"a", gateway=b"a+b=A"),
    b"FROM:<a@b> SIZE=7 BODY=BINARYMIME SMTPUTF8 RET=HDRS ENVID=e AUTH=x XBENNO-GW=g XBENNO-ID=i": (
        MailCommand(b"a@b", 7, b"BINARYMIME", True, b"g", b"i")
    ),
}


@pytest.mark.parametrize(("argument", "command"), MAIL.items(), ids=map(repr, MAIL))
def test_mail(argument: bytes, command: MailCommand) -> None:
    assert parse_mail(argument) == command


BDAT: dict[bytes, BdatCommand] = {
    b"0": BdatCommand(0, last=False),
    b"0 LAST": BdatCommand(0, last=True),
    b"4711": BdatCommand(4711, last=False),
    b" 4711  last ": BdatCommand(4711, last=True),
    b"0086 Last": BdatCommand(86, last=True),
}


@pytest.mark.parametrize(("argument", "command"), BDAT.items(), ids=map(repr, BDAT))
def test_bdat(argument: bytes, command: BdatCommand) -> None:
    assert parse_bdat(argument) == command
