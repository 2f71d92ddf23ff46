/* milterload: sends mails to a milter as Postfix does, and says how fast it took them, as JSON.
 *
 *   milterload [-c CONNECTIONS] [-m MAILS] [-s OCTETS] [-H HEADERS] [-r RECIPIENTS] [-w OCTETS] ADDRESS
 *
 * ADDRESS: the path of a Unix socket, or a TCP port on 127.0.0.1. Each connection sends one mail
 * after the other, and waits for replies exactly where Postfix does. Nothing is written in larger
 * pieces than -w: 4096 is Postfix's (VSTREAM_BUFSIZE); 0: no limit. One thread with epoll(7),
 * because it shares the machine with what is measured. Connecting and negotiating are not timed.
 * Latency: from the last octet of the message written, to the reply read. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "negotiation.h"
#include "script.h"

struct connection {
    int fd;
    const struct script *script;
    size_t segment, written;
    char waiting;                 /* for the reply to this command */
    int blocked;                  /* the socket takes no more */
    double ended;                 /* when the end of the message was written */
    unsigned char reply[1024];    /* of the packet that is read; what is longer is passed over */
    size_t held;
};

static struct work work = {.octets = 4096, .headers = 12, .recipients = 1};
static struct script greeting, mail;
static size_t piece = 4096;
static unsigned long mails = 1000, begun, finished, replies[256];
static double *latencies;
static int events;
static struct agreement agreed;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void watch(struct connection *one, uint32_t mask)
{
    struct epoll_event event = {.events = mask, .data.ptr = one};
    if (epoll_ctl(events, EPOLL_CTL_MOD, one->fd, &event) < 0)
        fail("epoll_ctl");
}

static void next_mail(struct connection *one)
{
    size_t left_out = one->script == &greeting ? ABORT_LENGTH : 0; /* there is nothing to abort yet */
    one->script = begun < mails ? &mail : NULL;
    begun += one->script != NULL;
    one->segment = 0;
    one->written = left_out;
}

/* Write up to where a reply is waited for, or nothing more is taken. */
static void advance(struct connection *one)
{
    while (one->script != NULL && !one->waiting) {
        if (one->segment == one->script->count) { /* the greeting; mails end with a reply */
            next_mail(one);
            continue;
        }
        const struct segment *segment = &one->script->segments[one->segment];
        size_t left = segment->length - one->written;
        if (piece > 0 && left > piece)
            left = piece;
        ssize_t took = write(one->fd, segment->data + one->written, left);
        if (took < 0) {
            if (errno != EAGAIN)
                fail("write");
            watch(one, EPOLLIN | EPOLLOUT);
            one->blocked = 1;
            return;
        }
        one->written += (size_t)took;
        if (one->written < segment->length)
            continue;
        one->segment++;
        one->written = 0;
        one->waiting = segment->event;
        if (segment->event == 'E')
            one->ended = now();
    }
}

static void finish(struct connection *one, char reply)
{
    if (one->waiting == 'E')
        latencies[finished] = now() - one->ended;
    finished++;
    replies[(unsigned char)reply]++;
    one->waiting = 0;
    next_mail(one);
}

static void handle(struct connection *one, char reply)
{
    if (strchr("pbhim+-2eql", reply) != NULL) /* progress, and changes before the last reply */
        return;
    if (!one->waiting) {
        fprintf(stderr, "milterload: reply %c, and none was owed\n", reply);
        exit(1);
    }
    if (one->script == &mail && (one->waiting == 'E' || strchr("cs", reply) == NULL)) {
        finish(one, reply);
        return;
    }
    char event = one->waiting;
    one->waiting = 0;
    while (reply == 's' && one->script->segments[one->segment].event == event)
        one->segment++;
}

static void receive(struct connection *one)
{
    ssize_t got = read(one->fd, one->reply + one->held, sizeof one->reply - one->held);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        fprintf(stderr, "milterload: the milter hung up after %lu mails\n", finished);
        exit(1);
    }
    one->held += (size_t)got;
    size_t at = 0;
    for (uint32_t size; one->held - at >= 5; at += 4 + size) {
        memcpy(&size, one->reply + at, 4);
        size = ntohl(size);
        if (one->held - at < 4 + (size_t)size)
            break;
        handle(one, (char)one->reply[at + 4]);
    }
    memmove(one->reply, one->reply + at, one->held - at);
    one->held -= at;
}

static int by_size(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static void tell(double seconds, unsigned connections)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    qsort(latencies, finished, sizeof *latencies, by_size);
    printf("{\"mails\": %lu, \"seconds\": %.6f, \"connections\": %u, \"octets\": %zu, \"flags\": %u,",
           finished, seconds, connections, work.octets, agreed.flags);
    printf(" \"median\": %.6f, \"high\": %.6f, \"worst\": %.6f, \"cpu\": %.3f, \"replies\": {",
           latencies[finished / 2], latencies[(finished * 99 + 99) / 100 - 1], latencies[finished - 1],
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
               + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    const char *comma = "";
    for (int reply = 0; reply < 256; reply++)
        if (replies[reply]) {
            printf("%s\"%c\": %lu", comma, reply, replies[reply]);
            comma = ", ";
        }
    printf("}}\n");
}

int main(int argc, char **argv)
{
    unsigned connections = 8;
    for (int option; (option = getopt(argc, argv, "c:m:s:H:r:w:")) != -1;) {
        unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;
        switch (option) {
        case 'c': connections = (unsigned)value; break;
        case 'm': mails = value; break;
        case 's': work.octets = value; break;
        case 'H': work.headers = (unsigned)value; break;
        case 'r': work.recipients = (unsigned)value; break;
        case 'w': piece = value; break;
        default: return 2;
        }
    }
    if (optind + 1 != argc || connections == 0 || mails == 0) {
        fprintf(stderr, "usage: milterload [-c CONNECTIONS] [-m MAILS] [-s OCTETS] [-H HEADERS]"
                        " [-r RECIPIENTS] [-w OCTETS] ADDRESS\n");
        return 2;
    }
    struct connection *all = calloc(connections, sizeof *all);
    latencies = calloc(mails, sizeof *latencies);
    events = epoll_create1(EPOLL_CLOEXEC);
    if (all == NULL || latencies == NULL || events < 0)
        fail("start");
    for (unsigned number = 0; number < connections; number++) {
        struct connection *one = &all[number];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
        one->fd = dial(argv[optind]);
        if (number == 0) {
            agreed = negotiate(one->fd);
            greeting = make_greeting(&agreed);
            mail = make_mail(work, &agreed);
        } else if (negotiate(one->fd).flags != agreed.flags) {
            fprintf(stderr, "milterload: the milter agreed to something else than before\n");
            return 1;
        }
        one->script = &greeting;
        if (fcntl(one->fd, F_SETFL, O_NONBLOCK) < 0
            || epoll_ctl(events, EPOLL_CTL_ADD, one->fd, &event) < 0)
            fail("epoll");
    }
    double start = now();
    for (unsigned number = 0; number < connections; number++)
        advance(&all[number]);
    while (finished < mails) {
        struct epoll_event ready[64];
        int count = epoll_wait(events, ready, 64, -1);
        for (int number = 0; number < count; number++) {
            struct connection *one = ready[number].data.ptr;
            if (one->blocked && ready[number].events & EPOLLOUT) {
                one->blocked = 0;
                watch(one, EPOLLIN);
            }
            if (ready[number].events & (EPOLLIN | EPOLLHUP))
                receive(one);
            if (!one->blocked)
                advance(one);
        }
    }
    tell(now() - start, connections);
    return 0;
}
