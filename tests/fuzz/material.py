"""What fuzzing inputs are made of: commands, packets and lines, and pieces of them."""

from __future__ import annotations

from hostile import FRAGMENTS
from milter_packets import COMMANDS, SESSION, negotiation, packets_of
from mta import packet

_ENVELOPE = b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"
_MAIL = b"Subject: x\r\n\r\nbody\r\n..\r\n"

MILTER = (
    *packets_of(SESSION),
    *(packet(bytes([command])) for command in COMMANDS),
    *(negotiation(version, 0, flags) for version in (2, 6) for flags in (0, 0x7F, 0x301FFFFF)),
    *(bytes(3) + bytes([length]) + b"B" for length in (0, 1, 2, 200)),
    *(b"\xff\xff\xff\xff", b"\0\x04\0\0L", b"\0\0\0\x05Ma\0b\0", b"\0", b"<a@b>\0", b"\n ", b"\r\n"),
)

SMTP = (
    *(
        b"EHLO a\r\n",
        b"HELO b\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"DATA\r\n",
        b".\r\n",
    ),
    *(
        b"\r\n.\r\n",
        b"\n.\n",
        b"\r.\r",
        b"..\r\n",
        b"RSET\r\n",
        b"QUIT\r\n",
        b"NOOP\r\n",
        b"VRFY x\r\n",
    ),
    *(
        b"BDAT 5\r\nhello",
        b"BDAT 3 LAST\r\nend",
        b"BDAT 0 LAST\r\n",
        b"BDAT 99999999999\r\n",
        b"BDAT x\r\n",
    ),
    *(b"STARTTLS\r\n", b"AUTH PLAIN AGEAYg==\r\n", b"AUTH LOGIN\r\n", b"HELP\r\n", b"EXPN\r\n"),
    *(b"MAIL FROM:<", b"> SIZE=1 BODY=BINARYMIME\r\n", b"> SMTPUTF8", b'"a b"@c', b"@x,@y:z@w", b"<>"),
    *(b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", b"Subject: x\r\n\r\nbody\r\n", b"\r\n", b"\n"),
    *(b"X-REAL-RCPTTO: <e@f>\r\n", b" XBENNO-GW=+41", b"\0", b"\xff", b"\r", b" ", b"x" * 1500),
)

FILES = (
    *FRAGMENTS,
    *(b"X-REAL-MAILFROM: <a@b>\r\n", b"X-REAL-RCPTTO: <c@d>\r\n", b"X-BENNO-GW: gw\r\n"),
    *(b"X-REAL-MAILFROM: <>\n", b"X-REAL-RCPTTO:c@d\n", b"Subject: x\r\n\r\n"),
)

CONFIGURATION = (
    *(
        b'import_directory = "/srv/benno/inbox"\n',
        b"import_directory=/a b\n",
        b"port = 25\n",
        b"port: 1\n",
    ),
    *(
        b"auth_pass = s3cret\n",
        b'key_pass = "s3cret"\n',
        b"keystore_pass: s3cret # x\n",
        b"listen = [\n",
    ),
    *(
        b'"::1",\n]\n',
        b"[gateways]\n",
        b'"10.0.0.0/8" = "x"\n',
        b"tls_enabled = TRUE\n",
        b"# x\n",
        b"! y\n",
    ),
    *(
        b'min_free = "5M"\n',
        b"max_message_size = 1k\n",
        b"\\u00e4",
        b"\\ud800",
        b'"""',
        b"'''",
        b"= = ",
    ),
    *(
        b"allowed_networks = []\n",
        b"\r",
        b"\r\n",
        b"\xe4",
        b"\x85",
        b"{",
        b"}",
        b'"',
        b"1979-05-27",
        b"0x",
    ),
)

SMTP_EXAMPLES = (
    _ENVELOPE + b"DATA\r\n" + _MAIL + b".\r\n" + _ENVELOPE[8:] + b"BDAT 3 LAST\r\nend",
    _ENVELOPE + b"RCPT TO:<e@f>\r\nBDAT 5\r\nhelloBDAT 3 LAST\r\nendRSET\r\n",
)
FILES_EXAMPLES = (
    b"X-REAL-MAILFROM: <a@b>\r\nX-REAL-RCPTTO: <c@d>\r\nX-BENNO-GW: gw\r\n" + _MAIL,
    b"X-REAL-MAILFROM: <>\r\nX-REAL-RCPTTO: <c@d>\r\nX-Benno-Foreign-X-REAL-RCPTTO: e\r\n\r\n",
)
CONFIGURATION_EXAMPLES = (
    b'import_directory = "/a"\nport = 25\n[gateways]\n"::1" = "x"\n',
    b"import_directory=/a b\nport: 1\n! y\nkeystore_pass = s3cret\n",
)
