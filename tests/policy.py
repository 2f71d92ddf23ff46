"""A policy service: what a real Postfix answers at each phase is decided by the test.

    with policy.serving() as service, postfix.running(root, "", extra=service.configuration):
        service.answers = {"RCPT": {"no@x.example": "550 5.1.1 unknown"}, "CONNECT": "421 4.7.0 later"}

Phases as Postfix calls them: CONNECT (in place of the greeting), EHLO, MAIL, RCPT, DATA (or the first
BDAT), END-OF-MESSAGE. All that is not named is accepted, and stays in the queue (HOLD). See
SMTPD_POLICY_README.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

_CONFIGURATION = """\
smtpd_delay_reject = no
smtpd_client_restrictions = check_policy_service inet:127.0.0.1:{port}
smtpd_helo_restrictions = check_policy_service inet:127.0.0.1:{port}
smtpd_sender_restrictions = check_policy_service inet:127.0.0.1:{port}
smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:{port}, permit_mynetworks, reject
smtpd_data_restrictions = check_policy_service inet:127.0.0.1:{port}
smtpd_end_of_data_restrictions = check_policy_service inet:127.0.0.1:{port}
smtpd_client_connection_rate_limit = 0
smtpd_error_sleep_time = 0
"""

# A phase → an action of access(5), the same for all, or by recipient.
Answers = Mapping[str, str | Mapping[str, str]]


@dataclass
class Service:
    """configuration: lines of main.cf. answers: to be set at any time. asked: the phases, so far."""

    configuration: str
    answers: Answers = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def action(self, request: Mapping[str, str]) -> str:
        phase = request["protocol_state"]
        phase = {"HELO": "EHLO", "BDAT": "DATA"}.get(phase, phase)
        self.asked.append(phase)
        answer = self.answers.get(phase, "")
        if not isinstance(answer, str):
            answer = answer.get(request["recipient"], "")
        return answer or ("HOLD" if phase == "END-OF-MESSAGE" else "DUNNO")


@contextmanager
def serving() -> Iterator[Service]:
    """One that runs until the end of the block."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            request: dict[str, str] = {}
            for line in self.rfile:
                name, _, value = line.decode(errors="replace").rstrip("\n").partition("=")
                if name:
                    request[name] = value
                    continue
                self.wfile.write(f"action={service.action(request)}\n\n".encode())
                request = {}

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        service = Service(_CONFIGURATION.format(port=server.server_address[1]))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield service
        server.shutdown()
