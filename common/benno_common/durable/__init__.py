"""A directory in which a file is either whole and safe from a power cut, or not there at all.

A file is written without a name (O_TMPFILE), synced, and only then linked under its final name, never
over another file; after the directory has been synced it survives a power cut. Watchers of the
directory, the archiver among them, therefore never see anything unfinished. Where the system has no
O_TMPFILE or no /proc (some network file systems, some chroots), files are written in a staging
directory beside this one and linked from there. Which way is open is tried at the start.

A failed sync is never tried again: the kernel reports a lost write once, and a second sync that
succeeds says nothing about it (this is what PostgreSQL learned in 2018). The directory is remembered
by device and inode, so that nothing is written under a mount point whose file system went away.

    staging    where files are written that cannot be without a name
    draft      one file, from its first octet to its name
    trial      what a mail needs of the directory, tried at the start
    directory  the directory: start-up checks, sync, identity, reserve, hold, remove
    syncing    threads that sync many files side by side
    committer  the thread that makes many files durable at once

This package alone syncs, links and renames. It knows no asyncio and is called by threads.
"""

from benno_common.durable.committer import Committer, Job
from benno_common.durable.directory import HELD, Directory
from benno_common.durable.draft import Draft
from benno_common.durable.trial import FULL, DirectoryUnusable

__all__ = ["FULL", "HELD", "Committer", "Directory", "DirectoryUnusable", "Draft", "Job"]
