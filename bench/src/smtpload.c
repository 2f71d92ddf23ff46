/*
 * Sends mails by SMTP over many connections at once, as fast as they are taken, and times the answers.
 *
 *   smtpload [-s SESSIONS] [-m MAILS] [-l OCTETS] [-r RECIPIENTS] [-k MAILS] [-b] ADDRESS PORT
 *
 * -m: in all. -l: of a message. -k: mails of a connection, then a new one (0: it stays). -b: BDAT.
 *
 * What Debian's smtp-source cannot do: BDAT, pipelining, and the time from the end of a mail to its
 * answer. Where PIPELINING is offered MAIL, all RCPT and DATA share a write, as Postfix's client sends
 * them; with BDAT the content goes with them, and BDAT 0 LAST after all were accepted, as the forwarder
 * does. All connections are greeted before the clock starts. One process, one thread, epoll: it takes
 * little of the machine that it shares with what it measures.
 *
 * Any reply but the expected one ends it with exit code 1. It prints one line of JSON: mails, seconds,
 * octets of a mail, CPU seconds of its own, and the seconds from the write of a mail's last piece, of
 * 64 KiB at the most, to the answer: median, 99 % and worst.
 */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "message.h"
#include "smtpsession.h"

static void make_opening(void)
{
    FILE *out = open_memstream(&opening, &opening_size);
    fprintf(out, "MAIL FROM:<sender@example.org> SIZE=%zu\r\n", message_size);
    for (unsigned i = 0; i < recipients; i++)
        fprintf(out, "RCPT TO:<recipient.%u@example.net>\r\n", i);
    if (bdat)
        fprintf(out, "BDAT %zu\r\n", message_size);
    else
        fprintf(out, "DATA\r\n");
    fclose(out);
}

static void read_options(int argc, char **argv)
{
    for (int option; (option = getopt(argc, argv, "s:m:l:r:k:b")) != -1; ) {
        switch (option) {
        case 's': sessions = (unsigned) atoi(optarg); break;
        case 'm': mails = strtoul(optarg, NULL, 10); break;
        case 'l': message_size = strtoul(optarg, NULL, 10); break;
        case 'r': recipients = (unsigned) atoi(optarg); break;
        case 'k': per_connection = strtoul(optarg, NULL, 10); break;
        case 'b': bdat = true; break;
        default: exit(64);
        }
    }
    if (argc != optind + 2 || !inet_pton(AF_INET, argv[optind], &address.sin_addr))
        errx(64, "an IPv4 address and a port, please");
    address.sin_port = htons((uint16_t) atoi(argv[optind + 1]));
}

static int compare(const void *one, const void *other)
{
    double a = *(const double *) one, b = *(const double *) other;
    return (a > b) - (a < b);
}

static void report(double seconds)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double) (used.ru_utime.tv_sec + used.ru_stime.tv_sec)
        + (double) (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    qsort(latencies, done, sizeof *latencies, compare);
    printf("{\"mails\": %lu, \"seconds\": %.6f, \"octets\": %zu, \"cpu\": %.3f, "
           "\"median\": %.6f, \"high\": %.6f, \"worst\": %.6f}\n",
           done, seconds, message_size, cpu,
           latencies[done / 2], latencies[(done * 99 + 99) / 100 - 1], latencies[done - 1]);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    message = make_message(message_size);
    make_opening();
    latencies = calloc(mails, sizeof *latencies);
    struct session *all = calloc(sessions, sizeof *all);
    struct epoll_event events[256];
    poller = epoll_create1(0);
    if (!latencies || !all || !message || poller < 0)
        err(1, "start");
    for (unsigned i = 0; i < sessions; i++)
        connect_to(&all[i]);
    while (done < mails) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct session *s = events[i].data.ptr;
            if (events[i].events & EPOLLOUT)
                flush(s);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                take(s, all);
        }
    }
    double seconds = now() - started;
    for (unsigned i = 0; i < sessions; i++)
        say(&all[i], "QUIT\r\n");
    report(seconds);
    return 0;
}
