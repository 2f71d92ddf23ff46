/* disklimit: how many durable files a second this disk takes, whoever asks for them.
 *
 *   disklimit [-n FILES] [-s OCTETS] [-b BATCH] DIRECTORY
 *
 * Of a batch (1: one by one), as benno_common/durable makes files durable: each is made without a
 * name (O_TMPFILE) and written, its writeback started; then each is synced, each linked, and the
 * directory synced once. With a batch of 1 the writeback is not started apart, because the sync
 * follows at once. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int write_file(int directory, const char *data, size_t octets, int start_writeback)
{
    int fd = openat(directory, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0640);
    if (fd < 0)
        fail("O_TMPFILE");
    for (size_t done = 0; done < octets;) {
        ssize_t took = write(fd, data + done, octets - done);
        if (took < 0)
            fail("write");
        done += (size_t)took;
    }
    if (start_writeback)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return fd;
}

static void commit(int directory, const int *fds, unsigned long count, unsigned long number)
{
    char from[64], name[64];
    for (unsigned long one = 0; one < count; one++)
        if (fdatasync(fds[one]) < 0)
            fail("fdatasync");
    for (unsigned long one = 0; one < count; one++) {
        snprintf(from, sizeof from, "/proc/self/fd/%d", fds[one]);
        snprintf(name, sizeof name, "%lu.eml", number + one);
        if (linkat(AT_FDCWD, from, directory, name, AT_SYMLINK_FOLLOW) < 0)
            fail("linkat");
    }
    if (fsync(directory) < 0)
        fail("fsync");
    for (unsigned long one = 0; one < count; one++)
        close(fds[one]);
}

int main(int argc, char **argv)
{
    unsigned long files = 1000, batch = 1, octets = 4096;
    for (int option; (option = getopt(argc, argv, "n:s:b:")) != -1;) {
        unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;
        if (option == 'n')
            files = value;
        else if (option == 's')
            octets = value;
        else if (option == 'b')
            batch = value;
        else
            return 2;
    }
    char *data = malloc(octets + 1);
    int *fds = calloc(batch, sizeof *fds);
    int directory = optind < argc ? open(argv[optind], O_RDONLY | O_DIRECTORY) : -1;
    if (data == NULL || fds == NULL || directory < 0)
        fail("usage: disklimit [-n FILES] [-s OCTETS] [-b BATCH] DIRECTORY");
    memset(data, 'x', octets);

    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (unsigned long number = 0, count; number < files; number += count) {
        count = files - number < batch ? files - number : batch;
        for (unsigned long one = 0; one < count; one++)
            fds[one] = write_file(directory, data, octets, batch > 1);
        commit(directory, fds, count, number);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf("{\"files\": %lu, \"seconds\": %.6f}\n", files, seconds);
    return 0;
}
