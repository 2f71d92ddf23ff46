"""benno-milter --check-postfix: configurations and what is found in them, as tables."""

from __future__ import annotations

import pytest

from benno_milter.finding import Finding, Severity, harmful, report
from benno_milter.judgement import judge
from benno_milter.postfix import Configuration, Service, Socket

QUEUE = "/var/spool/postfix"
SOCKET = Socket(path=f"{QUEUE}/benno-milter/benno-milter.sock")
PLAIN = "unix:benno-milter/benno-milter.sock"
OURS = f"{{ {PLAIN}, default_action=tempfail }}"
DKIM = "inet:127.0.0.1:8891"
LENIENT = f"{{ {DKIM}, default_action=accept }}"

# What postconf says of a well configured Postfix. `;` in the tables below separates settings.
MAIN = {
    "compatibility_level": "3.6",
    "enable_long_queue_ids": "yes",
    "internal_mail_filter_classes": "bounce",
    "mail_version": "3.7.11",
    "milter_content_timeout": "300s",
    "milter_default_action": "tempfail",
    "milter_protocol": "6",
    "non_smtpd_milters": OURS,
    "queue_directory": QUEUE,
    "smtpd_milters": OURS,
}
SMTP = "smtp inet y smtpd"
PICKUP = "pickup unix y pickup"
CLEANUP = "cleanup unix y cleanup"
LOCAL = (PICKUP, CLEANUP)
AFTER = "content_filter=amavis:[127.0.0.1]:10024"
BEFORE = "smtpd_proxy_filter=127.0.0.1:10024"
BACK = "127.0.0.1:10025 inet n smtpd content_filter="
RELAY = "2525 inet n smtpd content_filter=;mynetworks=10.0.0.0/8"
LOOPBACK = "127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128"
OVERRIDES = "receive_override_options"
LOSES, STOPS, DOUBLES, NOTE = Severity


def settings(text: str) -> dict[str, str]:
    pairs = (one.partition("=") for one in text.split(";") if one.strip())
    return {name.strip(): value.strip() for name, _, value in pairs}


def configuration(main: str, *services: str) -> Configuration:
    """main: over MAIN. services: name, kind, chroot, command, own settings."""
    effective = {**MAIN, **settings(main)}
    entries = []
    for line in services or (SMTP, *LOCAL):
        name, kind, chroot, command, own = [*line.split(None, 4), ""][:5]
        over = settings(own)
        entries.append(
            Service(name, kind, command, chroot == "y", {**effective, **over}, frozenset(over))
        )
    return Configuration(effective, tuple(entries))


def found(config: Configuration, socket: Socket = SOCKET) -> list[Finding]:
    return judge(config, socket)[0]


def brief(finding: Finding) -> tuple[object, ...]:
    return finding.problem.severity, ", ".join(finding.services), finding.file, "|".join(finding.lines)


LIST = f"smtpd_milters = {OURS}"
LOCAL_LIST = f"non_smtpd_milters = {OURS}"
NO_MILTERS = "-o receive_override_options=no_milters"

# Configuration → severity, services, file, lines.
JUDGED: dict[str, tuple[tuple[str, ...], list[tuple[object, ...]]]] = {
    "as in the guide": (("",), []),
    "also at submission, which inherits": (("", SMTP, "submission inet n smtpd", *LOCAL), []),
    "behind postscreen": (("", "smtp inet y postscreen", "smtpd pass y smtpd", *LOCAL), []),
    # Missing.
    "nowhere": (
        ("smtpd_milters=; non_smtpd_milters=",),
        [(LOSES, "smtp inet", "main.cf", LIST), (LOSES, "pickup unix", "main.cf", LOCAL_LIST)],
    ),
    "not for two services: told once": (
        ("smtpd_milters=", SMTP, "submission inet n smtpd", *LOCAL),
        [(LOSES, "smtp inet, submission inet", "main.cf", LIST)],
    ),
    "behind postscreen, missing": (
        ("smtpd_milters=", "smtp inet y postscreen", "smtpd pass y smtpd", *LOCAL),
        [(LOSES, "smtpd pass", "main.cf", LIST)],
    ),
    "submission: switched off by an empty list": (
        ("", SMTP, "submission inet n smtpd smtpd_milters=", *LOCAL),
        [(LOSES, "submission inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "submission and smtps: another list": (
        (
            "",
            f"submission inet n smtpd smtpd_milters={DKIM}",
            f"smtps inet n smtpd smtpd_milters={DKIM}",
            *LOCAL,
        ),
        [
            (
                LOSES,
                "submission inet, smtps inet",
                "master.cf",
                f"-o {{ smtpd_milters = {DKIM}, {OURS} }}",
            )
        ],
    ),
    "no_milters at a service": (
        (
            "",
            SMTP,
            "smtps inet n smtpd receive_override_options=no_address_mappings, no_milters",
            *LOCAL,
        ),
        [
            (
                LOSES,
                "smtps inet",
                "master.cf",
                "-o receive_override_options=no_address_mappings",
            )
        ],
    ),
    "no_milters in main.cf": (
        ("receive_override_options=no_milters",),
        [
            (LOSES, "smtp inet", "main.cf", "receive_override_options = "),
            (LOSES, "pickup unix", "main.cf", "receive_override_options = "),
        ],
    ),
    "a loopback port without any filter": (
        ("", SMTP, "127.0.0.1:10030 inet n smtpd smtpd_milters=", *LOCAL),
        [(LOSES, "127.0.0.1:10030 inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    # sendmail(1): the cleanup server asks.
    "non_smtpd_milters only at an smtpd": (
        ("non_smtpd_milters=", f"{SMTP} non_smtpd_milters={OURS}", *LOCAL),
        [(LOSES, "pickup unix", "main.cf", LOCAL_LIST)],
    ),
    "non_smtpd_milters at cleanup": (
        ("non_smtpd_milters=", SMTP, PICKUP, f"{CLEANUP} non_smtpd_milters={OURS}"),
        [],
    ),
    "non_smtpd_milters taken off at cleanup": (
        ("", SMTP, PICKUP, f"{CLEANUP} non_smtpd_milters="),
        [(LOSES, "cleanup unix", "master.cf", f"-o {{ {LOCAL_LIST} }}")],
    ),
    "pickup by another cleanup": (
        (
            "",
            SMTP,
            f"{PICKUP} cleanup_service_name=pre",
            CLEANUP,
            "pre unix y cleanup non_smtpd_milters=",
        ),
        [(LOSES, "pre unix", "master.cf", f"-o {{ {LOCAL_LIST} }}")],
    ),
    "no_milters at pickup": (
        ("", SMTP, f"{PICKUP} receive_override_options=no_milters", CLEANUP),
        [(LOSES, "pickup unix", "master.cf", "-o receive_override_options=")],
    ),
    "QMQP": (
        ("non_smtpd_milters=", SMTP, "628 inet n qmqpd", CLEANUP),
        [(LOSES, "628 inet", "main.cf", LOCAL_LIST)],
    ),
    # A filter after the queue.
    "after the queue, milter on at the re-injection": (
        (AFTER, SMTP, BACK, *LOCAL),
        [(DOUBLES, "127.0.0.1:10025 inet", "master.cf", NO_MILTERS)],
    ),
    "after the queue, other options there are kept": (
        (AFTER, SMTP, f"{BACK};receive_override_options=no_header_body_checks", *LOCAL),
        [
            (
                DOUBLES,
                "127.0.0.1:10025 inet",
                "master.cf",
                "-o receive_override_options=no_header_body_checks,no_milters",
            )
        ],
    ),
    "after the queue, off by an empty list": (
        (AFTER, SMTP, f"{BACK};smtpd_milters=;non_smtpd_milters=", *LOCAL),
        [],
    ),
    "after the queue, off by no_milters": (
        (AFTER, SMTP, f"{BACK};receive_override_options=no_milters", *LOCAL),
        [],
    ),
    "after the queue, set at one service only": (
        ("", f"{SMTP} {AFTER}", "[::1]:10025 inet n smtpd", *LOCAL),
        [(DOUBLES, "[::1]:10025 inet", "master.cf", NO_MILTERS)],
    ),
    "after the queue, from another host": (
        (AFTER, SMTP, "10025 inet n smtpd content_filter=;mynetworks=10.0.0.9", *LOCAL),
        [(DOUBLES, "10025 inet", "master.cf", NO_MILTERS)],
    ),
    "after the queue, the target is an smtpd": (
        ("", f"{SMTP} content_filter=smtp:[192.0.2.1]:2525", "2525 inet n smtpd", *LOCAL),
        [(DOUBLES, "2525 inet", "master.cf", NO_MILTERS)],
    ),
    "after the queue, archived on the way back only": (
        (
            f"{AFTER};smtpd_milters=;non_smtpd_milters=",
            SMTP,
            f"{BACK};smtpd_milters={OURS}",
            *LOCAL,
        ),
        [],
    ),
    "after the queue, archived nowhere: not in main.cf, which the way back inherits": (
        (f"{AFTER};smtpd_milters=", SMTP, BACK, *LOCAL),
        [(LOSES, "smtp inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "submission without the filter is no way back": (
        (AFTER, SMTP, "submission inet n smtpd content_filter=;smtpd_milters=", *LOCAL),
        [(LOSES, "submission inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "a program as filter": (
        ("", f"{SMTP} content_filter=scan:x", "scan unix n pipe", *LOCAL),
        [
            (
                DOUBLES,
                "",
                "master.cf",
                f"127.0.0.1:10026 inet n - n - - smtpd -o content_filter= {NO_MILTERS}",
            )
        ],
    ),
    "after the queue, recognised by its mynetworks": (
        ("", f"{SMTP} {AFTER}", "10025 inet n smtpd mynetworks=10.0.0.9", *LOCAL),
        [(DOUBLES, "10025 inet", "master.cf", NO_MILTERS)],
    ),
    "a program as filter for all mail: what it gives back by sendmail(1) would come again": (
        ("content_filter=scan:x", SMTP, "scan unix n pipe", *LOCAL),
        [],
    ),
    "a filter in an access table, perhaps": (
        ("", SMTP, BACK, *LOCAL),
        [(NOTE, "127.0.0.1:10025 inet", "main.cf", "")],
    ),
    # Archived on the way back from a filter after the queue.
    "on the way back only, and not what passes the filter by: main.cf, which smtp inherits, stays": (
        (
            f"{AFTER};smtpd_milters=;non_smtpd_milters=",
            SMTP,
            "submission inet n smtpd content_filter=",
            f"{BACK};smtpd_milters={OURS}",
            *LOCAL,
        ),
        [(LOSES, "submission inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "on the way back only, as to smtp that says so itself": (
        (
            f"{AFTER};smtpd_milters=;non_smtpd_milters=",
            f"{SMTP} smtpd_milters=",
            "submission inet n smtpd content_filter=",
            f"{BACK};smtpd_milters={OURS}",
            *LOCAL,
        ),
        [(LOSES, "submission inet", "main.cf", LIST)],
    ),
    "two filters, archived on one of the ways back": (
        (
            f"{AFTER};smtpd_milters=;non_smtpd_milters=",
            SMTP,
            "submission inet n smtpd content_filter=scan:[127.0.0.1]:10040",
            f"{BACK};smtpd_milters={OURS}",
            "127.0.0.1:10041 inet n smtpd content_filter=",
            *LOCAL,
        ),
        [(LOSES, "127.0.0.1:10041 inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    # What looks like the way back from a filter, and other hosts may use it.
    "an internal relay beside the way back": (
        (AFTER, SMTP, f"{BACK};smtpd_milters=", f"{RELAY};smtpd_milters=", *LOCAL),
        [(LOSES, "2525 inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "an internal relay, switched off": (
        (AFTER, SMTP, f"{BACK};smtpd_milters=", f"{RELAY};{OVERRIDES}=no_milters", *LOCAL),
        [(LOSES, "2525 inet", "master.cf", f"-o {OVERRIDES}=")],
    ),
    "an internal relay that asks": (
        (AFTER, SMTP, f"{BACK};smtpd_milters=", f"{RELAY};smtpd_milters={OURS}", *LOCAL),
        [(NOTE, "2525 inet", "main.cf", "")],
    ),
    "no mynetworks at all: a filter could not send there": (
        (
            AFTER,
            SMTP,
            f"{BACK};smtpd_milters=",
            "2525 inet n smtpd content_filter=;mynetworks=;smtpd_milters=",
            *LOCAL,
        ),
        [(LOSES, "2525 inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "an internal relay, and archived on the way back": (
        (
            f"{AFTER};smtpd_milters=;non_smtpd_milters=",
            SMTP,
            f"{BACK};smtpd_milters={OURS}",
            RELAY,
            *LOCAL,
        ),
        [(LOSES, "2525 inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "the only way back, open to others": (
        (AFTER, SMTP, f"{RELAY};smtpd_milters=", *LOCAL),
        [(LOSES, "2525 inet", "master.cf", "")],
    ),
    "the only way back, open as it listens everywhere": (
        (AFTER, SMTP, "10025 inet n smtpd content_filter=;smtpd_milters=", *LOCAL),
        [(LOSES, "10025 inet", "master.cf", "")],
    ),
    "the only way back, for this host": (
        (
            AFTER,
            SMTP,
            f"10025 inet n smtpd content_filter=;mynetworks={LOOPBACK};smtpd_milters=",
            *LOCAL,
        ),
        [],
    ),
    "the only way back, for the filter's host": (
        (
            "content_filter=amavis:[10.0.0.9]:10024",
            SMTP,
            "10025 inet n smtpd content_filter=;mynetworks=10.0.0.9/32;smtpd_milters=",
            *LOCAL,
        ),
        [],
    ),
    "the only way back, a port that the filter leads to": (
        (
            "",
            f"{SMTP} content_filter=smtp:[192.0.2.1]:2525",
            "2525 inet n smtpd mynetworks=10.0.0.0/8;smtpd_milters=",
            *LOCAL,
        ),
        [],
    ),
    "before the queue, open to others": (
        ("", f"{SMTP} {BEFORE}", "10025 inet n smtpd mynetworks=10.0.0.9;smtpd_milters=", *LOCAL),
        [(LOSES, "10025 inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    # A filter before the queue.
    "before the queue, on at the re-injection": (
        ("", f"{SMTP} {BEFORE}", "127.0.0.1:10025 inet n smtpd", *LOCAL),
        [],
    ),
    "before the queue, in front the list may be empty": (
        ("", f"{SMTP} {BEFORE};smtpd_milters=", "127.0.0.1:10025 inet n smtpd", *LOCAL),
        [],
    ),
    "before the queue, off at the re-injection": (
        ("", f"{SMTP} {BEFORE}", "127.0.0.1:10025 inet n smtpd smtpd_milters=", *LOCAL),
        [(LOSES, "127.0.0.1:10025 inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "before the queue, no_milters at the re-injection": (
        (
            "",
            f"{SMTP} {BEFORE}",
            "127.0.0.1:10025 inet n smtpd receive_override_options=no_milters",
            *LOCAL,
        ),
        [(LOSES, "127.0.0.1:10025 inet", "master.cf", "-o receive_override_options=")],
    ),
    "before the queue, nowhere: main.cf, which the way back may inherit": (
        (
            "smtpd_milters=",
            f"{SMTP} {BEFORE}",
            "submission inet n smtpd",
            "127.0.0.1:10025 inet n smtpd",
            *LOCAL,
        ),
        [
            (LOSES, "127.0.0.1:10025 inet", "master.cf", f"-o {{ {LIST} }}"),
            (LOSES, "submission inet", "main.cf", LIST),
        ],
    ),
    "before the queue, how milters are asked in front is the same": (
        (
            "",
            f"{SMTP} {BEFORE}; milter_protocol=2; smtpd_milters={PLAIN} {LENIENT}",
            "127.0.0.1:10025 inet n smtpd",
            *LOCAL,
        ),
        [],
    ),
    "before the queue, no re-injection": (
        ("", f"{SMTP} {BEFORE}", *LOCAL),
        [(LOSES, "smtp inet", "main.cf", "")],
    ),
    "before the queue by SMTP, after it by sendmail(1): off where it comes in after": (
        (AFTER, f"{SMTP} content_filter=;{BEFORE}", BACK, *LOCAL),
        [(DOUBLES, "pickup unix", "master.cf", NO_MILTERS)],
    ),
    # Its place in the list.
    "last of two": ((f"smtpd_milters={DKIM}, {OURS}; non_smtpd_milters={DKIM} {OURS}",), []),
    "not last": (
        (f"smtpd_milters={OURS}, {DKIM} inet:[::1]:1",),
        [
            (
                DOUBLES,
                "smtp inet",
                "main.cf",
                f"smtpd_milters = {DKIM}, inet:[::1]:1, {OURS}",
            ),
            (NOTE, "", "main.cf", ""),
        ],
    ),
    "twice": ((f"smtpd_milters={OURS} {OURS}",), [(DOUBLES, "smtp inet", "main.cf", LIST)]),
    # What is no milter.
    "settings without braces": (
        (f"smtpd_milters={PLAIN}, default_action=tempfail",),
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
    "settings without braces, in master.cf": (
        ("", f"{SMTP} smtpd_milters={PLAIN} protocol=6", *LOCAL),
        [(STOPS, "smtp inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "settings without braces, and accept for all": (
        (f"milter_default_action=accept; smtpd_milters=default_action=tempfail, {OURS}",),
        [(NOTE, "smtp inet", "main.cf", LIST)],
    ),
    "no milter, and accept for itself": (
        (f"smtpd_milters={{ /run/x.sock, default_action=accept }}, {OURS}",),
        [(NOTE, "smtp inet", "main.cf", LIST)],
    ),
    "no milter, on hold": (
        (f"smtpd_milters={{ /run/x.sock, default_action=quarantine }}, {OURS}",),
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
    "another milter without unix:": (
        (f"smtpd_milters={OURS}, /run/x.sock",),
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
    "another milter with inet6:": (
        (f"smtpd_milters=inet6:[::1]:8891, {OURS}",),
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
    "unix: and no path": (
        (f"smtpd_milters=unix: {OURS}",),
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
    "no milter, and another one after benno-milter": (
        (f"smtpd_milters={PLAIN} default_action=tempfail {DKIM}; non_smtpd_milters={DKIM} {OURS}",),
        [
            (STOPS, "smtp inet", "main.cf", f"smtpd_milters = {DKIM}, {OURS}"),
            (DOUBLES, "smtp inet", "main.cf", f"smtpd_milters = {DKIM}, {OURS}"),
        ],
    ),
    "no milter, and no benno-milter": (
        ("smtpd_milters=/run/x.sock",),
        [(LOSES, "smtp inet", "main.cf", LIST), (STOPS, "smtp inet", "main.cf", "")],
    ),
    "no milter, where there shall be none": (
        (AFTER, SMTP, f"{BACK};smtpd_milters=/run/x.sock", *LOCAL),
        [(STOPS, "127.0.0.1:10025 inet", "main.cf", "")],
    ),
    "no milter in front of a filter before the queue": (
        (
            "",
            f"{SMTP} {BEFORE};smtpd_milters={PLAIN} default_action=tempfail",
            "127.0.0.1:10025 inet n smtpd",
            *LOCAL,
        ),
        [(STOPS, "smtp inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    # When nobody answers.
    "accept": (
        (f"milter_default_action=accept; smtpd_milters={PLAIN}",),
        [(LOSES, "smtp inet", "main.cf", LIST)],
    ),
    "accept at a service": (
        (
            "",
            f"smtps inet n smtpd smtpd_milters={PLAIN}; milter_default_action=accept",
            *LOCAL,
        ),
        [(LOSES, "smtps inet", "master.cf", f"-o {{ {LIST} }}")],
    ),
    "accept for the milter itself": (
        (f"smtpd_milters={{ {PLAIN}, default_action=accept }}",),
        [(LOSES, "smtp inet", "main.cf", LIST)],
    ),
    "accept for another one": (
        (f"smtpd_milters={LENIENT}, {OURS}; non_smtpd_milters={LENIENT}, {OURS}",),
        [],
    ),
    "accept for all, but not for ours": (("milter_default_action=accept",), []),
    "quarantine": (
        (f"smtpd_milters={{ {PLAIN}, default_action=quarantine }}",),
        [(LOSES, "smtp inet", "main.cf", LIST)],
    ),
    "reject": (
        (f"smtpd_milters={{ {PLAIN}, default_action=reject }}",),
        [(LOSES, "smtp inet", "main.cf", LIST)],
    ),
    "shutdown": (
        (f"smtpd_milters={{ {PLAIN}, default_action=shutdown }}",),
        [(NOTE, "smtp inet", "main.cf", LIST)],
    ),
    "an action that there is not": (
        (f"smtpd_milters={{ {PLAIN}, default_action=defer }}",),
        [(NOTE, "smtp inet", "main.cf", LIST)],
    ),
    # The rest.
    "protocol 2": (
        ("milter_protocol=2",),
        [(NOTE, "smtp inet, pickup unix", "main.cf", "milter_protocol = 6")],
    ),
    "protocol 4 at a service": (
        ("", f"{SMTP} milter_protocol=4", *LOCAL),
        [(NOTE, "smtp inet", "master.cf", "-o milter_protocol=6")],
    ),
    "protocol 3 for the milter": (
        (f"smtpd_milters={OURS[:-1]} protocol=3 }}",),
        [(NOTE, "smtp inet", "main.cf", LIST)],
    ),
    "a short time limit": (
        ("milter_content_timeout=2m",),
        [(NOTE, "smtp inet, pickup unix", "main.cf", "milter_content_timeout = 300s")],
    ),
    "a time limit much too short": (
        ("", f"{SMTP} milter_content_timeout=10", *LOCAL),
        [(DOUBLES, "smtp inet", "master.cf", "-o milter_content_timeout=300s")],
    ),
    "the gravest comes first": (
        ("milter_protocol=2; milter_content_timeout=10s",),
        [
            (DOUBLES, "smtp inet, pickup unix", "main.cf", "milter_content_timeout = 300s"),
            (NOTE, "smtp inet, pickup unix", "main.cf", "milter_protocol = 6"),
        ],
    ),
    "a long time limit": (("milter_content_timeout=1h",), []),
    "short queue ids": (
        ("enable_long_queue_ids=no",),
        [(NOTE, "", "main.cf", "enable_long_queue_ids = yes")],
    ),
    "bounces": (
        ("internal_mail_filter_classes=notify",),
        [(NOTE, "", "main.cf", "internal_mail_filter_classes = bounce")],
    ),
    "bounces among others": (("internal_mail_filter_classes=notify, bounce",), []),
    "other instances": (
        ("multi_instance_directories=/etc/postfix-out",),
        [(NOTE, "", "main.cf", "")],
    ),
    "always_bcc": (("always_bcc=all@example.org",), [(NOTE, "", "main.cf", "")]),
    "milters by client": (
        ("smtpd_milter_maps=cidr:/etc/postfix/milters",),
        [(NOTE, "smtp inet", "main.cf", "")],
    ),
    "no mail server": (("", "smtp unix y smtp"), [(NOTE, "", "main.cf", "")]),
}


@pytest.mark.parametrize(("given", "expected"), JUDGED.values(), ids=JUDGED)
def test_judged(given: tuple[str, ...], expected: list[tuple[object, ...]]) -> None:
    assert list(map(brief, found(configuration(*given)))) == expected


# Where benno-milter listens, the milter in the list, chroot → what does not lead there.
FULL = f"{QUEUE}/benno-milter/benno-milter.sock"
TCP = Socket(host="10.0.0.5", port="22500", given=True)
TCP_LIST = "smtpd_milters = { inet:10.0.0.5:22500, default_action=tempfail }"
LINE = "SOCKET=/var/spool/postfix/benno-milter/benno-milter.sock"
ADDRESSES: dict[str, tuple[Socket, str, str, list[tuple[object, ...]]]] = {
    "relative, chroot": (SOCKET, "unix:benno-milter/benno-milter.sock", "y", []),
    "relative": (SOCKET, "unix:benno-milter/benno-milter.sock", "n", []),
    "of the chroot, chroot": (SOCKET, "local:/benno-milter/benno-milter.sock", "y", []),
    "of the chroot": (
        SOCKET,
        "unix:/benno-milter/benno-milter.sock",
        "n",
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
    "full": (SOCKET, f"unix:{FULL}", "n", []),
    "full, chroot": (SOCKET, f"local:{FULL}", "y", [(STOPS, "smtp inet", "main.cf", LIST)]),
    "another path": (
        SOCKET,
        "unix:benno/milter.sock",
        "y",
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
    "outside the queue": (Socket(path="/run/benno.sock"), "unix:/var/run/benno.sock", "n", []),
    "outside the queue, chroot": (
        Socket(path="/run/benno.sock"),
        "unix:/run/benno.sock",
        "y",
        [(STOPS, "smtp inet", "/etc/default/benno-milter", LINE)],
    ),
    "without unix:": (SOCKET, FULL, "n", [(STOPS, "smtp inet", "main.cf", LIST)]),
    "any name": (Socket(path=f"{QUEUE}/archive"), "unix:archive", "y", []),
    "TCP": (TCP, "inet:10.0.0.5:22500", "y", []),
    "TCP by name": (TCP, "inet:archive:22500", "n", []),
    "TCP at its usual port": (SOCKET, "inet:127.0.0.1:22500", "y", []),
    "TCP, IPv6": (SOCKET, "inet:[::1]:22500", "y", []),
    "TCP at another port": (
        TCP,
        "inet:benno.example.org:22501",
        "y",
        [(STOPS, "smtp inet", "main.cf", TCP_LIST)],
    ),
    "TCP, but it listens at a path": (
        Socket(path=FULL, given=True),
        "inet:127.0.0.1:22500",
        "y",
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
    "as Sendmail writes it": (
        TCP,
        "inet:22500@10.0.0.5",
        "y",
        [(STOPS, "smtp inet", "main.cf", TCP_LIST)],
    ),
    "inet6, which Postfix does not know": (
        SOCKET,
        "inet6:[::1]:22500",
        "y",
        [(STOPS, "smtp inet", "main.cf", LIST)],
    ),
}


@pytest.mark.parametrize(("socket", "address", "chroot", "expected"), ADDRESSES.values(), ids=ADDRESSES)
def test_address(socket: Socket, address: str, chroot: str, expected: list[tuple[object, ...]]) -> None:
    config = configuration(f"smtpd_milters={{ {address} }}", f"smtp inet {chroot} smtpd")
    assert list(map(brief, found(config, socket))) == expected


def test_a_tcp_address_in_use_is_the_one_to_write() -> None:
    config = configuration("smtpd_milters=inet:archive:22500; non_smtpd_milters=")
    (finding,) = found(config)
    assert finding.lines == ("non_smtpd_milters = { inet:archive:22500, default_action=tempfail }",)


@pytest.mark.parametrize("smtpd_milters", [OURS, ""])
def test_nobody_listens(smtpd_milters: str) -> None:
    config = configuration(f"smtpd_milters={smtpd_milters}")
    findings = found(config, Socket(path=FULL, answers=False))
    (stops,) = (one for one in findings if one.problem.severity is STOPS)
    assert stops.problem.what == f"Nobody listens at unix:{FULL}"
    assert "override.conf" in stops.problem.why


def test_nobody_listens_where_nobody_asks() -> None:
    main = "smtpd_milters=inet:archive:22500; non_smtpd_milters=inet:archive:22500"
    assert not found(configuration(main), Socket(path=FULL, answers=False))


def test_the_file_that_says_where_it_listens_is_named() -> None:
    socket = Socket(port="22500", given=True, source="/etc/systemd/system/x.d/override.conf")
    findings, checked = judge(configuration(""), socket)
    assert [one.lines for one in findings] == [
        (f"{name} = {{ inet:127.0.0.1:22500, default_action=tempfail }}",)
        for name in ("smtpd_milters", "non_smtpd_milters")
    ]
    said = (
        "benno-milter listens at inet:127.0.0.1:22500; /etc/systemd/system/x.d/override.conf says so."
    )
    assert said in findings[0].problem.why
    assert checked.endswith("inet:127.0.0.1:22500 (/etc/systemd/system/x.d/override.conf).")


def test_other_milters_for_sendmail() -> None:
    (finding,) = found(configuration(f"non_smtpd_milters={DKIM}, {OURS}"))
    assert "are for SMTP: none; for sendmail(1): inet:127.0.0.1:8891." in finding.problem.why


def test_a_milter_that_stands_there_twice() -> None:
    (finding,) = found(configuration(f"smtpd_milters={OURS} {OURS}"))
    assert finding.problem.what == "benno-milter stands in the list more than once"


def test_a_filter_after_the_queue_is_not_for_what_goes_to_one_before_it() -> None:
    (finding,) = found(configuration(AFTER, f"{SMTP} {BEFORE}", BACK, *LOCAL))
    assert finding.problem.why.startswith(
        "It comes in at pickup unix, goes to amavis:[127.0.0.1]:10024,"
    )


def test_that_as_an_option_of_smtpd_it_has_no_effect_is_said() -> None:
    (finding,) = found(configuration("non_smtpd_milters=", f"{SMTP} non_smtpd_milters={OURS}", *LOCAL))
    assert "As -o of an smtpd non_smtpd_milters has no effect" in finding.problem.why


def test_report() -> None:
    config = configuration("enable_long_queue_ids=no", f"{SMTP} smtpd_milters=", *LOCAL)
    findings, checked = judge(config, SOCKET)
    assert harmful(findings)
    assert (
        report(findings, checked)
        == f"""\
Loses mail
==========

* benno-milter is not asked
  At: smtp inet
  What comes in there is delivered and not archived.
  Write in master.cf, at smtp inet:
      -o {{ {LIST} }}

Worth knowing
=============

* Queue ids are short
  They recur within weeks, so that an old line of the log may speak of another mail.
  Write in main.cf:
      enable_long_queue_ids = yes

Checked: mail comes in at smtp inet, pickup (sendmail(1)); benno-milter at
unix:/var/spool/postfix/benno-milter/benno-milter.sock."""
    )


def test_report_where_all_is_well() -> None:
    findings, checked = judge(configuration("", SMTP, *LOCAL), SOCKET)
    assert not harmful(findings)
    assert report(findings, checked).startswith("Nothing here loses or doubles mail. Checked: mail")
