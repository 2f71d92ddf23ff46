/*
 * One SMTP session of smtpload: what it says, what it expects, when it sends the next mail.
 */
#ifndef SMTPSESSION_H
#define SMTPSESSION_H

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LAST "BDAT 0 LAST\r\n"
#define DOT ".\r\n"
#define PIECE 65536

enum step { GREETING, EHLO, READY, OPENING, ENDING, QUITTING };

struct session {
    int fd;
    enum step step;
    bool pipelining, chunking, waits_for_room;
    unsigned owed;         /* replies */
    size_t said;           /* octets of the opening, where it goes line by line */
    unsigned long mails;   /* over this connection */
    double ended;          /* when the last piece was written */
    struct iovec out[2];   /* what waits to be written */
    size_t have;
    char in[16384];        /* replies */
};

static unsigned sessions = 1, recipients = 1, ready;
static unsigned long mails = 1, begun, done, per_connection;
static bool bdat;
static char *message, *opening;
static size_t message_size = 4096, opening_size;
static double *latencies, started;
static struct sockaddr_in address = { .sin_family = AF_INET };
static int poller;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static void watch(struct session *s, int operation)
{
    struct epoll_event event = { .events = EPOLLIN | (s->waits_for_room ? EPOLLOUT : 0), .data.ptr = s };
    if (epoll_ctl(poller, operation, s->fd, &event))
        err(1, "epoll_ctl");
}

/* The next piece of what waits to be written. */
static ssize_t write_piece(struct session *s)
{
    struct iovec piece[2] = { s->out[0], s->out[1] };
    if (piece[0].iov_len > PIECE) {
        piece[0].iov_len = PIECE;
        piece[1].iov_len = 0;
    } else if (piece[1].iov_len > PIECE) {
        piece[1].iov_len = PIECE;
    }
    s->ended = now();
    return writev(s->fd, piece, 2);
}

static void flush(struct session *s)
{
    while (s->out[0].iov_len || s->out[1].iov_len) {
        ssize_t n = write_piece(s);
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            err(1, "write");
        for (int i = 0; i < 2; i++) {
            size_t of_this = (size_t) n < s->out[i].iov_len ? (size_t) n : s->out[i].iov_len;
            s->out[i].iov_base = (char *) s->out[i].iov_base + of_this;
            s->out[i].iov_len -= of_this;
            n -= (ssize_t) of_this;
        }
    }
    bool waits = s->out[0].iov_len || s->out[1].iov_len;
    if (waits != s->waits_for_room) {
        s->waits_for_room = waits;
        watch(s, EPOLL_CTL_MOD);
    }
}

static void send_two(struct session *s, const char *first, size_t length, const char *second, size_t more)
{
    s->out[0] = (struct iovec) { (char *) first, length };
    s->out[1] = (struct iovec) { (char *) second, more };
    flush(s);
}

static void say(struct session *s, const char *text)
{
    send_two(s, text, strlen(text), NULL, 0);
}

static void connect_to(struct session *s)
{
    int on = 1;
    memset(s, 0, sizeof *s);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *) &address, sizeof address))
        err(1, "connect");
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    s->owed = 1;
    watch(s, EPOLL_CTL_ADD);
}

/* The next line of the opening, or all of it; the content of a chunk goes with its BDAT. */
static void open_mail(struct session *s)
{
    size_t until = opening_size;
    if (!s->pipelining)
        until = (size_t) (strchr(opening + s->said, '\n') + 1 - opening);
    const char *begin = opening + s->said;
    size_t length = until - s->said;
    s->said = until;
    s->owed = s->pipelining ? recipients + 2 : 1;
    s->step = OPENING;
    send_two(s, begin, length, message, bdat && until == opening_size ? message_size : 0);
}

static void begin_mail(struct session *s)
{
    if (begun == mails) {
        s->step = QUITTING;
        return;
    }
    if (per_connection && s->mails == per_connection) {
        say(s, "QUIT\r\n");
        close(s->fd);
        connect_to(s);
        return;
    }
    begun++;
    s->mails++;
    s->said = 0;
    open_mail(s);
}

static void end_mail(struct session *s)
{
    s->step = ENDING;
    s->owed = 1;
    if (bdat)
        say(s, LAST);
    else
        send_two(s, message, message_size, DOT, strlen(DOT));
}

/* All that is owed has come. */
static void go_on(struct session *s, struct session *all)
{
    switch (s->step) {
    case GREETING:
        s->step = EHLO;
        s->owed = 1;
        say(s, "EHLO load.example\r\n");
        break;
    case EHLO:
        if (bdat && !s->chunking)
            errx(1, "CHUNKING is not offered");
        s->step = READY;
        if (started) {
            begin_mail(s);
        } else if (++ready == sessions) {
            started = now();
            for (unsigned i = 0; i < sessions; i++)
                begin_mail(&all[i]);
        }
        break;
    case OPENING:
        if (s->said < opening_size)
            open_mail(s);
        else
            end_mail(s);
        break;
    case ENDING:
        latencies[done++] = now() - s->ended;
        begin_mail(s);
        break;
    default:
        errx(1, "a reply that nobody waits for: %.200s", s->in);
    }
}

static void take_line(struct session *s, struct session *all, const char *line, size_t length)
{
    if (s->step == EHLO && length > 4) {
        s->pipelining |= strncasecmp(line + 4, "PIPELINING", 10) == 0;
        s->chunking |= strncasecmp(line + 4, "CHUNKING", 8) == 0;
    }
    if (length > 3 && line[3] == '-')
        return;
    bool last_of_opening = s->step == OPENING && s->said == opening_size && s->owed == 1;
    char expected = last_of_opening && !bdat ? '3' : '2';
    if (line[0] != expected || !s->owed)
        errx(1, "after %lu mails the server said: %.*s", done, (int) length, line);
    if (--s->owed == 0)
        go_on(s, all);
}

static void take(struct session *s, struct session *all)
{
    ssize_t n = read(s->fd, s->in + s->have, sizeof s->in - s->have);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        errx(1, "after %lu mails the server hung up", done);
    size_t begin = 0;
    s->have += (size_t) n;
    for (char *end; (end = memchr(s->in + begin, '\n', s->have - begin)); ) {
        size_t next = (size_t) (end + 1 - s->in);
        take_line(s, all, s->in + begin, (size_t) (end - s->in) - begin);
        if (!s->have)
            return;  /* it is another connection now */
        begin = next;
    }
    s->have -= begin;
    memmove(s->in, s->in + begin, s->have);
}

#endif
