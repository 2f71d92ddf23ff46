"""One run over the spool: mails oldest first over a few connections, one after another on each.

What becomes of a mail is decided in `outcome` and done in `disposal`. A mail goes a second time over a
new connection where the first had been good for another mail and was lost before the end of this one
was sent: servers close after so many mails, or so many seconds.

A run that ends early waits for mails whose end was sent, and breaks the others off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from benno_common import log
from benno_common.mailfile import MailFileError
from benno_common.service import Exit
from benno_common.spool import Spool
from benno_milter2smtp.backlog import Backlog, Opened
from benno_milter2smtp.delivery import Delivery
from benno_milter2smtp.disposal import Begun, Disposal, Tally
from benno_milter2smtp.outcome import Delivered, Permanent, SessionTrouble
from benno_milter2smtp.parcel import Parcel
from benno_milter2smtp.removal import Removal
from benno_milter2smtp.route import Crowded, NoHost, Route

STOP_SECONDS = 60.0  # systemd kills after 90 s (TimeoutStopSec)


class QueueRun:
    """connections: at most so many at once. normalize: line ends may be altered where they must be."""

    def __init__(
        self, spool: Spool, route: Route, removal: Removal, *, connections: int, normalize: bool = False
    ) -> None:
        self.spool = spool
        self.route = route
        self.backlog = Backlog(spool)
        self.disposal = Disposal(spool, self.backlog, route, removal)
        self.normalize = normalize
        self._removal = removal
        self._connections = connections
        self._senders: dict[asyncio.Task[None], _Sender] = {}
        self._failure: Exit | None = None

    @property
    def tally(self) -> Tally:
        return self.disposal.tally

    async def run(self) -> None:
        """Raises Exit for trouble of configuration or disk, after all that was sent is taken out."""
        loop = asyncio.get_running_loop()
        for _ in range(self._connections):
            sender = _Sender(self)
            self._senders[loop.create_task(sender.work())] = sender
        ended, _ = await asyncio.wait(self._senders)
        await self.disposal.finish()
        await self._removal.finish()
        if self.spool.foreign:
            log.foreign_files(self.spool.path, sorted(self.spool.foreign))
        self.tally.kept += self._removal.left
        if self.disposal.stopped:
            self.tally.kept = max(1, self.tally.kept)
            with contextlib.suppress(OSError):  # of the disk that ended the run, perhaps
                self.tally.kept = await asyncio.to_thread(self.spool.count)
        if self._failure:
            raise self._failure
        for task in ended:
            if not task.cancelled():
                task.result()  # an error of ours is not passed over

    async def stop(self) -> None:
        """End early: mails whose end was sent are waited for, within a limit."""
        self.disposal.stopped = True
        for task, sender in self._senders.items():
            if sender.breakable:
                task.cancel()
        if self._senders:
            _, late = await asyncio.wait(self._senders, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()

    def fail(self, failure: Exit) -> None:
        """End the run, and have run() raise this."""
        self._failure = self._failure or failure
        self.disposal.stopped = True


class _Sender:
    """One connection at a time, one mail after another."""

    def __init__(self, run: QueueRun) -> None:
        self._run = run
        self._delivery: Delivery | None = None
        self._talking = False  # with the server, or while connecting to it

    @property
    def breakable(self) -> bool:
        """Nothing is lost or left half done if it is cancelled now."""
        return self._talking and not (self._delivery is not None and self._delivery.ending)

    async def work(self) -> None:
        run = self._run
        try:
            while not run.disposal.stopped:
                opened = await run.backlog.next()
                if opened is not None:
                    await self._forward(opened)
                elif not run.disposal.go_on_elsewhere():
                    break
        except NoHost:
            run.disposal.stopped = True
        except Crowded:
            pass  # the others go on
        except Exit as failure:
            run.fail(failure)
        except OSError as error:
            run.fail(Exit(os.EX_TEMPFAIL, f"spool: {error.strerror}"))
        finally:
            await self._disconnect()

    async def _forward(self, opened: Opened) -> None:
        run, begun, name = self._run, self._run.disposal.begin(), opened.name
        try:
            parcel = opened.parcel()
            if not run.disposal.stopped:
                await self._connect(name)
                await self._send(parcel, begun)
        except FileNotFoundError:
            pass  # somebody took it away
        except MailFileError as error:
            await run.disposal.hold(name, str(error))
        except OSError as error:
            run.disposal.keep(name, "", f"it cannot be read: {error.strerror}")
        except (NoHost, Crowded, Exit):
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours must not keep the other mails here
            log.unexpected(name, error)
            run.tally.kept += 1

    async def _connect(self, name: str) -> None:
        route, delivery = self._run.route, self._delivery
        if delivery is not None and delivery.usable and route.host_of(delivery) == route.host:
            return
        await self._disconnect()
        self._talking = True
        try:
            self._delivery = await route.connect()
        except (NoHost, Crowded, Exit, asyncio.CancelledError):
            self._run.backlog.put_back([name])
            raise
        except Exception as error:  # whatever it is, the next mail would meet it too
            self._run.backlog.put_back([name])
            log.unexpected(name, error)
            raise NoHost from error
        finally:
            self._talking = False

    async def _send(self, parcel: Parcel, begun: Begun) -> None:
        delivery, run, name = self._delivery, self._run, parcel.name
        assert delivery is not None
        host = run.route.host_of(delivery)
        reused, begin = delivery.delivered > 0, time.monotonic()
        self._talking = True
        try:
            outcome, altered = await delivery.deliver(parcel, normalize=run.normalize)
        finally:
            self._talking = False
        if isinstance(outcome, Delivered):
            await run.disposal.delivered(
                parcel, host, outcome, time.monotonic() - begin, altered=altered
            )
        elif isinstance(outcome, Permanent):
            run.disposal.refused(parcel, host, outcome)
        elif isinstance(outcome, SessionTrouble):
            run.disposal.troubled(name, host, outcome, begun)
        elif not outcome.broken:
            run.disposal.deferred(name, host, outcome)
        elif reused and not delivery.ending:
            run.backlog.put_back([name])
        else:
            run.disposal.lost(name, host, outcome.reason, begun, stored=delivery.ending)

    async def _disconnect(self) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is not None:
            await self._run.route.close(delivery)
