"""What a mail needs of its directory, tried once at the start: files, names, groups, sync."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from benno_common.durable.draft import FILE_MODE, Draft, Place

FULL = {errno.ENOSPC, errno.EDQUOT}

_PROBE = ".probe"
_LINKED = ".probe.link"
_MOVED = ".probe.move"


class DirectoryUnusable(OSError):
    """The directory cannot take mail; the message says why and what to do."""


def check_files(path: str, place: Place) -> None:
    """Write a file as mails are written, and see that the archiver could read and delete it."""
    draft = Draft(place)
    try:
        status = os.fstat(draft.fd)
        place.chmod |= stat.S_IMODE(status.st_mode) != FILE_MODE
        draft.write(b"X")
        draft.sync()
        if place.staging is not None:  # is it really the same file system, for link(2) too?
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_LINKED, dir_fd=place.fd)
            draft.link(_LINKED)
            os.unlink(_LINKED, dir_fd=place.fd)
    finally:
        draft.close()
    directory = os.fstat(place.fd)
    if directory.st_mode & 0o070 == 0o070:
        if status.st_gid != directory.st_gid:
            reason = (
                f"files in {path} would get group {status.st_gid}, the directory has "
                f"{directory.st_gid}: the archiver could not read them; chmod g+s {path}"
            )
            raise DirectoryUnusable(errno.EINVAL, reason)
    elif status.st_uid != directory.st_uid:
        reason = (
            f"the archiver could not delete files in {path}: it is not ours, "
            f"and its group may not write there; chmod 2770 {path}"
        )
        raise DirectoryUnusable(errno.EINVAL, reason)


def has_unnamed_files(place: Place) -> bool:
    """Whether O_TMPFILE works here and /proc can give such a file a name."""
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, FILE_MODE, dir_fd=place.fd)
    except OSError as error:
        if error.errno in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
            return False
        if error.errno in FULL:
            return True
        raise
    try:
        # "." exists, so nothing is made; but a missing /proc is noticed before that.
        os.link(f"/proc/self/fd/{fd}", ".", dst_dir_fd=place.fd, follow_symlinks=True)
    except FileExistsError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def check_sync(path: str, place: Place) -> None:
    """Change the directory and sync the change. No watcher can take an empty subdirectory for mail."""
    with contextlib.suppress(FileExistsError):  # of a killed process, or of one that starts just now
        os.mkdir(_PROBE, 0o700, dir_fd=place.fd)
    try:
        os.rmdir(_PROBE, dir_fd=place.fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ENOTEMPTY}:
            reason = f"{path}: there is a {_PROBE} that is no empty directory; remove it"
            raise DirectoryUnusable(error.errno, reason) from error
        raise
    os.fsync(place.fd)


def check_move(source: Place, target: Place) -> None:
    """Move something from one to the other: it fails where one file system is mounted twice."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(_MOVED, 0o700, dir_fd=source.fd)
    try:
        os.rename(_MOVED, _MOVED, src_dir_fd=source.fd, dst_dir_fd=target.fd)
    except OSError:
        os.rmdir(_MOVED, dir_fd=source.fd)
        raise
    os.rmdir(_MOVED, dir_fd=target.fd)
